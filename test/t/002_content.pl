# What a message may contain arrives as it was sent.
use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use Digest::MD5 qw(md5_hex);
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

my $sqsd = endpoint_kind() eq 'sqsd';
my $sqs = start_sqs(queues => [ 'content', 'content.fifo', 'latin,VisibilityTimeout=60' ]);
my $node = new_node('main');

# The default of initdb here may be SQL_ASCII.
sub database
{
	my ($name, $encoding) = @_;
	$node->safe_psql('postgres',
		"CREATE DATABASE $name ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	setup_database($node, $sqs, dbname => $name);
	$node->safe_psql($name, <<'EOQ');
CREATE TABLE got (n serial, m sqs_message);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (m) VALUES (m) $$;
EOQ
	return;
}

database('content', 'UTF8');
my $sql = sub { return $node->safe_psql('content', $_[0]) };
my $is = sub { return query_is($node, @_, dbname => 'content') };

$sql->(q{SELECT sqs_register_queue('content', server => 'aws', handler => 'handle')});
$sql->(q{SELECT sqs_register_queue('content.fifo', server => 'aws', handler => 'handle')});

# ---- bodies

my $everything = join '', map { chr } 0x20 .. 0x2ff, 0x2028, 0x2029, 0xfeff;
my %body = (
	'one byte' => 'x',
	'one space' => ' ',
	'tab, line feed, carriage return' => "\t\n\r a\tb\nc\r\nd \n",
	'printable ASCII and quotes' => join('', map { chr } 0x20 .. 0x7e),
	'DEL and C1 controls' => join('', map { chr } 0x7f .. 0x9f),
	'backslashes and quotes' => q{\\\\"\"'' \n \u0000 \ud800 $$ $1 %s \\x00 {"a":"\\"}},
	'ends of the ranges' => join('', map { chr } 0xd7ff, 0xe000, 0xfffd, 0x10000, 0x10ffff),
	'noncharacters that are legal' => join('', map { chr } 0xfdd0, 0x1fffd),
	'a bit of everything' => $everything,
	'emoji' => "\x{1F600}\x{1F468}\x{200D}\x{1F469}",
	'JSON' => '{"id": 1, "text": "tea \u2615 \\"hot\\""}',
	'slashes' => 'a/b\/c</script>',
	'only a backslash' => '\\',
	'only a quote' => '"');
# fauxqs takes what is beyond the basic multilingual plane for illegal
if (!$sqsd)
{
	delete $body{$_} foreach grep { $body{$_} =~ /[\x{10000}-\x{10ffff}]/ } keys %body;
}
my @names = sort keys %body;
my @ids = $sqs->send_messages('content', map { $body{$_} } @names);
$is->('SELECT count(*) FROM got', scalar(@names), 'all messages are handled');
foreach my $i (0 .. $#names)
{
	is( $sql->("SELECT encode(convert_to((m).body, 'UTF8'), 'hex') FROM got WHERE (m).message_id = '$ids[$i]'"),
		unpack('H*', encode_utf8($body{ $names[$i] })), "body as sent: $names[$i]");
}

# the greatest message: 1,048,576 bytes; also one that grows in JSON
$sql->('TRUNCATE got');
foreach my $case ([ 'letters', 'abcdefgh' x 131_072 ], [ 'quotes', '"\\' x 524_288 ],
	[ 'characters of three bytes', ("\x{20ac}" x 349_525) . 'x' ])
{
	my ($name, $body) = @$case;
	my $bytes = encode_utf8($body);
	is(length($bytes), 1_048_576, "a body of 1 MiB: $name");
	my ($id) = $sqs->send_messages('content', $body);
	$is->("SELECT octet_length((m).body), md5((m).body) FROM got WHERE (m).message_id = '$id'",
		'1048576|' . md5_hex($bytes), 'arrives');
}
is($sql->('SELECT count(*) FROM sqs_failures'), '0', 'no failures');

# ---- attributes

$sql->('TRUNCATE got');
my $binary = join '', map { chr } 0 .. 255;
$sqs->send_messages(
	'content',
	{
		MessageBody => 'attributes',
		MessageAttributes => {
			string => { DataType => 'String', StringValue => "t\x{e9}xt \"q\" \\ \t\n\x{1F600}" },
			integer => { DataType => 'Number', StringValue => '42' },
			'negative.number' => { DataType => 'Number', StringValue => '-1.5' },
			big => { DataType => 'Number', StringValue => '12345678901234567890123456789012345678' },
			binary => { DataType => 'Binary', BinaryValue => encode_base64($binary, '') },
			custom => { DataType => 'String.custom', StringValue => 'label' },
			int => { DataType => 'Number.int', StringValue => '7' },
			png => { DataType => 'Binary.png', BinaryValue => encode_base64("\x89PNG", '') },
			'a-b_c.D' => { DataType => 'String', StringValue => '1' },
			last => { DataType => 'String', StringValue => 'null' },
		}
	},
	'none');
$is->('SELECT count(*) FROM got', '2', 'messages with and without attributes arrive');
my $expected = {
	string => "t\x{e9}xt \"q\" \\ \t\n\x{1F600}",
	integer => 42,
	'negative.number' => -1.5,
	binary => { DataType => 'Binary', BinaryValue => encode_base64($binary, '') },
	custom => { DataType => 'String.custom', StringValue => 'label' },
	int => { DataType => 'Number.int', StringValue => '7' },
	png => { DataType => 'Binary.png', BinaryValue => encode_base64("\x89PNG", '') },
	'a-b_c.D' => '1',
	last => 'null'
};
my $got = JSON::PP->new->utf8->allow_nonref->allow_bignum->decode(
	$sql->(q{SELECT (m).attributes - 'big' FROM got WHERE (m).body = 'attributes'}));
$got = JSON::PP->new->utf8->decode($sql->(q{SELECT (m).attributes - 'big' FROM got WHERE (m).body = 'attributes'}));
is_deeply($got, $expected, 'ten attributes of all types');
is( $sql->(q{SELECT (m).attributes->'big', string_agg(DISTINCT k || ':' || jsonb_typeof((m).attributes->k), ',' ORDER BY k || ':' || jsonb_typeof((m).attributes->k))
	FROM got, jsonb_object_keys((m).attributes) k WHERE (m).body = 'attributes' GROUP BY 1}),
	'12345678901234567890123456789012345678|a-b_c.D:string,big:number,binary:object,custom:object,int:object,integer:number,last:string,negative.number:number,png:object,string:string',
	'with their types, no digit lost');
is($sql->(q{SELECT (m).attributes FROM got WHERE (m).body = 'none'}), '{}', 'without attributes: {}');

# ---- what SQS itself adds

is( $sql->(q{SELECT (m).group_id IS NULL, (m).deduplication_id IS NULL, (m).sequence_number IS NULL,
	(m).receive_count, (m).queue, (m).receipt_handle <> '', (m).sent_at <= (m).first_received_at,
	(m).first_received_at <= now() + interval '5 s' FROM got WHERE (m).body = 'none'}),
	't|t|t|1|content|t|t|t', 'a message of a standard queue');
is( $sql->(q{SELECT bool_and(jsonb_typeof(v) = 'string'), bool_or(k = 'SenderId') FROM got, jsonb_each((m).system_attributes) AS s (k, v)}),
	't|t', 'system_attributes holds strings, SenderId among them');
if ($sqsd)
{
	$sqs->send_messages('content',
		{
			MessageBody => 'traced',
			MessageSystemAttributes => { AWSTraceHeader => { DataType => 'String',
				StringValue => 'Root=1-5759e988-bd862e3fe1be46a994272793' } }
		});
	$is->(q{SELECT (m).system_attributes->>'AWSTraceHeader' FROM got WHERE (m).body = 'traced'},
		'Root=1-5759e988-bd862e3fe1be46a994272793', 'AWSTraceHeader is among the system attributes');
	$sqs->send_messages('content', { MessageBody => 'tenant', MessageGroupId => 'tenant-1' });
	$is->(q{SELECT (m).group_id FROM got WHERE (m).body = 'tenant'}, 'tenant-1', 'a group on a standard queue');
}

$sql->('TRUNCATE got');
my $ascii = q{!"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~};
$sqs->send_messages('content.fifo',
	{ MessageBody => 'first', MessageGroupId => "g$ascii", MessageDeduplicationId => "d$ascii" },
	{ MessageBody => 'second', MessageGroupId => "g$ascii", MessageDeduplicationId => 'x' x 128 });
$is->('SELECT count(*) FROM got', '2', 'messages of a FIFO queue arrive');
is( $sql->(q{SELECT (m).body, (m).group_id, (m).deduplication_id FROM got ORDER BY n}),
	"first|g$ascii|d$ascii\nsecond|g$ascii|" . ('x' x 128), 'with group and deduplication id');
is( $sql->(q{SELECT bool_and((m).sequence_number > 0), count(DISTINCT (m).sequence_number),
	bool_and((m).sequence_number > lag) FROM (SELECT m, lag((m).sequence_number, 1, 0) OVER (ORDER BY n) FROM got) s}),
	't|2|t', 'and rising sequence numbers');
$sqs->is_empty('content');
$sqs->is_empty('content.fifo');

# ---- a database that cannot hold every character

database('latin', 'LATIN1');
$node->safe_psql('latin', q{SELECT sqs_register_queue('latin', server => 'aws', handler => 'handle')});
my ($good) = $sqs->send_messages('latin', "caf\x{e9}");
query_is($node, q{SELECT encode(convert_to((m).body, 'LATIN1'), 'hex') FROM got}, '636166e9',
	'a LATIN1 database gets what it can hold', dbname => 'latin');
my ($euro, $kanji) = $sqs->send_messages('latin', "10 \x{20ac}", "\x{65e5}\x{672c}",
	{ MessageBody => 'x', MessageAttributes => { a => { DataType => 'String', StringValue => "\x{e9}" } } });
query_is($node, q{SELECT count(*), count(DISTINCT message_id), min(sqlstate), max(sqlstate) FROM sqs_failures}, '2|2|22P05|22P05',
	'what it cannot hold is a failure of that message', dbname => 'latin');
is( $node->safe_psql('latin', q{SELECT message_id FROM sqs_failures ORDER BY 1}), join("\n", sort($euro, $kanji)), 'of these');
query_is($node, q{SELECT encode(convert_to((m).attributes->>'a', 'LATIN1'), 'hex') FROM got WHERE (m).body = 'x'}, 'e9',
	'the queue goes on, attributes are converted too', dbname => 'latin');
poll_until(sub { my $c = $sqs->counts('latin'); "$c->{visible} $c->{in_flight}" eq '0 2' },
	'the others are left to redrive, these two only');

$node->stop;
check_log($node, qr/has no equivalent in encoding "LATIN1"/);
done_testing();
