# What other AWS services put into a queue is unwrapped if the queue's option says so.
use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

my @options = qw(none auto sns eventbridge s3);
my $sqs = start_sqs(queues => [ map { "unwrap-$_" } @options ]);
my $node = new_node('main');
setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (n serial, queue text, message_id text, body text, attributes jsonb, envelope jsonb);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (queue, message_id, body, attributes, envelope)
    VALUES (m.queue, m.message_id, m.body, m.attributes, m.envelope) $$;
EOQ
$node->safe_psql('postgres', "SELECT sqs_register_queue('unwrap-$_', server => 'aws', handler => 'handle', unwrap => '$_')")
  for @options;

my $json = JSON::PP->new->canonical->ascii;

# Send a message to the queue with this value of the option; what the handler got.
sub deliver
{
	my ($option, $body, $attributes) = @_;
	my ($id) = $sqs->send_messages("unwrap-$option",
		{ MessageBody => ref $body ? $json->encode($body) : $body, $attributes ? (MessageAttributes => $attributes) : () });
	query_is($node, "SELECT count(*) FROM got WHERE message_id = '$id'", '1', "$option: a message is handled");
	my $row = decode_json($node->safe_psql('postgres', "SELECT row_to_json(got) FROM got WHERE message_id = '$id'"));
	return ($row->{body}, $row->{attributes}, $row->{envelope});
}

# Is what the handler gets what was sent?
sub passes
{
	my ($option, $body, $name) = @_;
	$body = $json->encode($body) if ref $body;
	my ($got, undef, $envelope) = deliver($option, $body);
	is($got, $body, "$option: $name: the body is as sent");
	is($envelope, undef, "$option: $name: there is no envelope");
	return;
}

sub sns
{
	my ($message, %more) = @_;
	return {
		Type => 'Notification',
		MessageId => '22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324',
		TopicArn => 'arn:aws:sns:us-east-1:123456789012:orders',
		Message => ref $message ? $json->encode($message) : $message,
		Timestamp => '2026-01-02T03:04:05.678Z',
		SignatureVersion => '2',
		Signature => 'c2lnbmF0dXJl',
		SigningCertURL => 'https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem',
		UnsubscribeURL => 'https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe',
		%more
	};
}

my $event = {
	version => '0',
	id => '6a7e8feb-b491-4cf7-a9f1-bf3703467718',
	'detail-type' => 'Order Placed',
	source => 'shop.orders',
	account => '123456789012',
	time => '2026-01-02T03:04:05Z',
	region => 'us-east-1',
	resources => ['arn:aws:ec2:us-east-1:123456789012:instance/i-1'],
	detail => { order => 7, lines => [ 'tea', 'cake' ] }
};

my $s3 = {
	Records => [
		{
			eventVersion => '2.1',
			eventSource => 'aws:s3',
			awsRegion => 'us-west-2',
			eventTime => '2026-01-02T03:04:05.678Z',
			eventName => 'ObjectCreated:Put',
			userIdentity => { principalId => 'AIDAJDPLRKLG7UEXAMPLE' },
			s3 => {
				s3SchemaVersion => '1.0',
				configurationId => 'all',
				bucket => { name => 'photos', arn => 'arn:aws:s3:::photos' },
				object => {
					key => 'summer+2026/caf%C3%A9+%2B1%25.jpg',
					size => 1024,
					eTag => 'd41d8cd98f00b204e9800998ecf8427e',
					versionId => '096fKKXTRTtl3on89fVO.nfljtsv6qko',
					sequencer => '0055AED6DCD90281E5'
				}
			}
		},
		{
			eventSource => 'aws:s3',
			eventName => 'ObjectRemoved:Delete',
			s3 => { bucket => { name => 'photos' }, object => { key => 'bad%zzkey%00', sequencer => '01' } }
		}
	]
};

# ---- SNS

my %attributes = (
	tenant => { Type => 'String', Value => 'acme "1"' },
	amount => { Type => 'Number', Value => '12.50' },
	odd => { Type => 'Number', Value => '+7' },
	tags => { Type => 'String.Array', Value => '["a","b"]' },
	blob => { Type => 'Binary', Value => 'AAEC' },
	broken => 'not an object');
my %as_ours = (
	tenant => 'acme "1"',
	amount => 12.5,
	odd => { DataType => 'Number', StringValue => '+7' },
	tags => { DataType => 'String.Array', StringValue => '["a","b"]' },
	blob => { DataType => 'Binary', BinaryValue => 'AAEC' });
for my $option (qw(auto sns))
{
	my ($body, $attributes, $envelope) =
	  deliver($option, sns("tea \x{22}hot\x{22}", Subject => 'An order', MessageAttributes => \%attributes));
	is($body, 'tea "hot"', "$option: the body is SNS's message");
	is_deeply($attributes, \%as_ours, "$option: the attributes are SNS's, in the form of SQS's");
	is_deeply(
		$envelope,
		{
			kind => 'sns',
			id => '22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324',
			topic_arn => 'arn:aws:sns:us-east-1:123456789012:orders',
			subject => 'An order',
			time => '2026-01-02T03:04:05.678Z'
		},
		"$option: the envelope says where it is from");
}
{
	my $fifo = sns('in order', SequenceNumber => '10000000000000003000');
	delete @$fifo{qw(Signature SignatureVersion SigningCertURL)};
	my ($body, undef, $envelope) = deliver('auto', $fifo);
	is($body, 'in order', 'a FIFO topic sends no signature');
	is($envelope->{sequence_number}, '10000000000000003000', 'but a sequence number');
}
passes($_, sns('wrapped'), 'SNS') for qw(none eventbridge s3);

# with raw delivery there is no envelope, and the attributes are SQS's
{
	my ($body, $attributes, $envelope) =
	  deliver('auto', 'raw', { tenant => { DataType => 'String', StringValue => 'acme' } });
	is($body, 'raw', 'raw delivery: the body');
	is_deeply($attributes, { tenant => 'acme' }, 'raw delivery: the attributes');
	is($envelope, undef, 'raw delivery: no envelope');
}

# ---- EventBridge

for my $option (qw(auto eventbridge))
{
	my ($body, undef, $envelope) = deliver($option, $event);
	is_deeply($json->decode($body), $event->{detail}, "$option: the body is the event's detail");
	is_deeply(
		$envelope,
		{
			kind => 'eventbridge',
			detail_type => 'Order Placed',
			map { $_ => $event->{$_} } qw(id source account time region resources)
		},
		"$option: the envelope is the rest");
	($body, undef, $envelope) = deliver($option, sns($event));
	is_deeply($json->decode($body), $event->{detail}, "$option: also within SNS");
	is("$envelope->{kind} $envelope->{sns}{kind} $envelope->{sns}{topic_arn}",
		'eventbridge sns arn:aws:sns:us-east-1:123456789012:orders', "$option: with both envelopes");
}
passes($_, $event, 'EventBridge') for qw(none sns s3);

# ---- S3

for my $option (qw(auto s3))
{
	for my $wrapped (0, 1)
	{
		my $name = $option . ($wrapped ? ', within SNS' : '');
		my ($body, undef, $envelope) = deliver($option, $wrapped ? sns($s3) : $s3);
		is_deeply($json->decode($body), $s3, "$name: the body is S3's event");
		is($envelope->{kind}, 's3', "$name: kind");
		is_deeply(
			$envelope->{records},
			[
				{
					event => 'ObjectCreated:Put',
					time => '2026-01-02T03:04:05.678Z',
					region => 'us-west-2',
					bucket => 'photos',
					key => "summer 2026/caf\x{e9} +1%.jpg",
					size => 1024,
					etag => 'd41d8cd98f00b204e9800998ecf8427e',
					version_id => '096fKKXTRTtl3on89fVO.nfljtsv6qko',
					sequencer => '0055AED6DCD90281E5'
				},
				{
					event => 'ObjectRemoved:Delete',
					bucket => 'photos',
					key => 'bad%zzkey%00',
					sequencer => '01'
				}
			],
			"$name: the envelope has the objects, with their keys decoded");
		is(defined $envelope->{sns} ? 1 : 0, $wrapped, "$name: and SNS's part");
	}
	my $acked = "SELECT acked, failed, discarded FROM sqs_stats WHERE queue = 'unwrap-$option'";
	my $before = $node->safe_psql('postgres', "SELECT count(*) FROM got WHERE queue = 'unwrap-$option'");
	my $test = { Service => 'Amazon S3', Event => 's3:TestEvent', Bucket => 'photos', Time => '2026-01-02T03:04:05Z' };
	my @ids = $sqs->send_messages("unwrap-$option", $json->encode($test), $json->encode(sns($test)));
	query_is($node, $acked, ($before + 2) . '|0|2', "$option: S3's test event is acknowledged");
	is($node->safe_psql('postgres', "SELECT count(*) FROM got WHERE message_id IN ('$ids[0]', '$ids[1]')"), '0',
		"$option: and no handler sees it");
}
passes($_, $s3, 'S3') for qw(none sns eventbridge);

# ---- pointers of Amazon's extended clients

my $object = { s3BucketName => 'big', s3Key => 'b2ff9a5c' };
my %flag = (ExtendedPayloadSize => { DataType => 'Number', StringValue => '400000' });
for my $case (
	[ 'as a list', [ 'software.amazon.payloadoffloading.PayloadS3Pointer', $object ], undef ],
	[ 'as a list, with the older name', [ 'com.amazon.sqs.javamessaging.MessageS3Pointer', $object ], undef ],
	[ 'as an object', $object, \%flag ])
{
	my ($name, $pointer, $attributes) = @$case;
	for my $option (qw(auto s3))
	{
		my ($body, undef, $envelope) = deliver($option, $pointer, $attributes);
		is($body, $json->encode($pointer), "$option: pointer $name: the body stays");
		is_deeply($envelope, { kind => 's3_pointer', bucket => 'big', key => 'b2ff9a5c' },
			"$option: pointer $name: the envelope names the object");
	}
}
passes('auto', $object, 'an object without the attribute that marks a pointer');

# ---- what is no envelope is no error

passes('auto', $_, 'no envelope: ' . substr($_, 0, 20))
  for 'plain text', ' ', '{', '[]', '{}', '[1,2]', '{"Type":"Notification"}', '{"Type":7,"Message":{}}',
  '{"Records":[]}', '{"Records":[7]}', '{"Records":{}}', '{"detail-type":"x","source":"y","id":"z","detail":7}',
  '{"a":"\u0000"}', '{"a":1e999999}', '[' x 200_000, '{"Records":[{"eventSource":"aws:sqs","s3":{}}]}';
is( $node->safe_psql('postgres', 'SELECT sum(failed) FROM sqs_stats'), '0', 'no message has failed');

# ---- the option can be changed, and is as strict as others

$node->safe_psql('postgres', "SELECT sqs_alter_queue('unwrap-none', unwrap => 'sns')");
query_true($node, q{(SELECT unwrap = 'sns' FROM sqs_queues WHERE name = 'unwrap-none')}, 'the option is shown');
poll_until(
	sub {
		my ($body) = deliver('none', sns('changed'));
		return $body eq 'changed';
	},
	'and takes effect');
my ($code, $out, $err) = $node->psql('postgres', "SELECT sqs_alter_queue('unwrap-none', unwrap => 'SNS')");
like($err, qr/invalid value for option "unwrap": "SNS".*must be none, auto, sns, eventbridge, or s3/s, 'a wrong value is refused');

$node->stop;
check_log($node, qr{invalid value for option "unwrap"});
done_testing();
