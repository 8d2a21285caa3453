# Only what SNS has signed is handled, if the queue's option says so.
#
# SNS's host is a proxy of ours that answers in its place, with a certificate of our
# own authority.
use strict;
use warnings;

use Cwd qw(abs_path);
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();
plan skip_all => 'needs IO::Socket::SSL' unless eval { require IO::Socket::SSL; 1 };

my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $host = 'sns.us-east-1.amazonaws.com';

# ---- certificates

sub openssl
{
	my @arguments = @_;
	my $out;
	return 1 if eval { IPC::Run::run([ 'openssl', @arguments ], '>', \$out, '2>&1') };
	diag($out) if defined $out;
	return 0;
}

sub make_authority
{
	my ($name) = @_;
	return openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', "/CN=$name",
		'-addext', 'basicConstraints=critical,CA:TRUE', '-keyout', "$dir/$name.key", '-out', "$dir/$name.crt");
}

# A certificate with the names, in a file with its issuer.
sub make_cert
{
	my ($file, $authority, $cn, $names) = @_;
	append_to_file("$dir/$file.ext", "subjectAltName=$names\n");
	openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', "/CN=$cn", '-keyout', "$dir/$file.key", '-out', "$dir/$file.csr")
	  or return 0;
	openssl('x509', '-req', '-in', "$dir/$file.csr", '-CA', "$dir/$authority.crt", '-CAkey', "$dir/$authority.key",
		'-CAcreateserial', '-days', '2', '-extfile', "$dir/$file.ext", '-out', "$dir/$file.crt")
	  or return 0;
	append_to_file("$dir/$file.pem", slurp_file("$dir/$file.crt") . slurp_file("$dir/$authority.crt"));
	return 1;
}

plan skip_all => 'needs openssl'
  unless make_authority('ours')
  && make_authority('theirs')
  && make_cert('host', 'ours', $host, "DNS:$host")
  && make_cert('sns', 'ours', 'sns.amazonaws.com', 'DNS:sns.amazonaws.com')
  && make_cert('later', 'ours', 'sns.amazonaws.com', 'DNS:sns.amazonaws.com')
  && make_cert('untrusted', 'theirs', 'sns.amazonaws.com', 'DNS:sns.amazonaws.com')
  && make_cert('other', 'ours', 'sqs.amazonaws.com', 'DNS:sqs.amazonaws.com');

# ---- SNS's host

my $requests = "$dir/requests";
append_to_file($requests, '');

# Answer one request: a file of ours, or 404; 503 while there is a file "closed".
sub answer
{
	my ($socket) = @_;
	my $connect = '';
	while (my $line = <$socket>)
	{
		$connect .= $line;
		last if $line =~ /^\r?\n$/;
	}
	my ($where) = $connect =~ m{^CONNECT (\S+)} or return;
	print $socket "HTTP/1.1 200 Connection established\r\n\r\n";
	$socket->flush;
	IO::Socket::SSL->start_SSL($socket, SSL_server => 1, SSL_cert_file => "$dir/host.pem", SSL_key_file => "$dir/host.key")
	  or return;
	my $get = <$socket>;
	return unless defined $get;
	while (my $line = <$socket>)
	{
		last if $line =~ /^\r?\n$/;
	}
	my ($path) = $get =~ m{^GET (\S+) };
	append_to_file($requests, "$where $path\n");
	my ($name) = $path =~ m{^/([a-z]+)\.pem$};
	my ($status, $body) =
		-e "$dir/closed" ? (503, 'closed') :
		defined $name && -e "$dir/$name.pem" ? (200, slurp_file("$dir/$name.pem")) :
		(404, 'nobody home');
	print $socket "HTTP/1.1 $status Answer\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
	close($socket);
	return;
}

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 20, ReuseAddr => 1) or die "no listener: $!";
my $port = $listener->sockport;
my $proxy = fork();
die "fork: $!" unless defined $proxy;
if ($proxy == 0)
{
	local $SIG{PIPE} = 'IGNORE';
	local $SIG{TERM} = 'DEFAULT';
	while (1)
	{
		my $socket = $listener->accept or next;
		eval { answer($socket); };
	}
}
close($listener);

END
{
	my $status = $?;
	if ($proxy)
	{
		kill 'KILL', $proxy;
		waitpid($proxy, 0);
	}
	$? = $status;
}

sub requests
{
	my ($file) = @_;
	return scalar grep { m{^\Q$host\E:443 /\Q$file\E$} } split /\n/, slurp_file($requests);
}

# ---- messages

my $json = JSON::PP->new->canonical->ascii;

# A notification, signed with the key of a certificate of ours.
sub notification
{
	my ($message, $version, $cert, %more) = @_;
	my %sns = (
		Type => 'Notification',
		MessageId => '22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324',
		TopicArn => 'arn:aws:sns:us-east-1:123456789012:orders',
		Message => $message,
		Timestamp => '2026-01-02T03:04:05.678Z',
		SignatureVersion => $version,
		SigningCertURL => "https://$host/$cert.pem",
		%more);
	my $text = '';
	foreach my $name (qw(Message MessageId Subject Timestamp TopicArn Type))
	{
		$text .= "$name\n$sns{$name}\n" if defined $sns{$name};
	}
	utf8::encode($text);
	unlink("$dir/text");
	append_to_file("$dir/text", $text);
	openssl('dgst', $version eq '1' ? '-sha1' : '-sha256', '-sign', "$dir/$cert.key", '-out', "$dir/signature", "$dir/text")
	  or die 'cannot sign';
	$sns{Signature} = encode_base64(slurp_file("$dir/signature"), '');
	$sns{MessageAttributes} = { color => { Type => 'String', Value => 'red' } };
	return \%sns;
}

my $sqs = start_sqs(queues => [ map { "$_,VisibilityTimeout=20" } qw(signed any waits batches) ]);
my $node = new_node('main',
	env => { https_proxy => "http://127.0.0.1:$port" },
	conf => "sqsbridge.ca_file = '$dir/ours.crt'\n");
setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (n serial, queue text, message_id text, body text, attributes jsonb, topic text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (queue, message_id, body, attributes, topic)
    VALUES (m.queue, m.message_id, m.body, m.attributes, m.envelope->>'topic_arn') $$;
CREATE FUNCTION handle_many(messages sqs_message[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (queue, message_id, body, attributes, topic)
    SELECT m.queue, m.message_id, m.body, m.attributes, m.envelope->>'topic_arn' FROM unnest(messages) AS m $$;
EOQ

# ---- the option

sub register
{
	my ($queue, $options, $handler) = @_;
	$handler ||= 'handle';
	my ($ret, $out, $err) = $node->psql('postgres',
		"SET client_min_messages = warning; SELECT sqs_register_queue('$queue', server => 'aws', handler => '$handler', $options)");
	return $err;
}
my $wrong = qr/option "verify_sns" cannot be true while option "unwrap" is/;
like(register('signed', 'verify_sns => true'), qr/$wrong "none"/, 'what stays in its envelope is not verified');
like(register('signed', q{verify_sns => true, unwrap => 's3'}), qr/$wrong "s3"/, 'nor if other envelopes are taken off');
is(register('signed', q{verify_sns => true, unwrap => 'sns', max_attempts => 1}), '', 'with SNS\'s envelope it is');
my ($ret, $out, $err) = $node->psql('postgres', q{SELECT sqs_alter_queue('signed', unwrap => 'eventbridge')});
like($err, $wrong, 'and stays so');
is(register('any', q{unwrap => 'sns'}), '', 'a queue that takes anything');
is(register('waits', q{verify_sns => true, unwrap => 'auto', max_attempts => 1, retry_delay => '0'}), '', 'one more');

# ---- what SNS has signed

sub deliver
{
	my ($queue, $body) = @_;
	my ($id) = $sqs->send_messages($queue, { MessageBody => ref $body ? $json->encode($body) : $body });
	return $id;
}

sub row
{
	my ($id) = @_;
	return "SELECT body, attributes, topic FROM got WHERE message_id = '$id'";
}

my $topic = 'arn:aws:sns:us-east-1:123456789012:orders';
query_is($node, row(deliver('signed', notification('one', '1', 'sns'))), qq(one|{"color": "red"}|$topic), 'signed with SHA-1');
query_is($node, row(deliver('signed', notification("two \x{20ac}", '2', 'sns', Subject => 'It is'))), qq(two \xe2\x82\xac|{"color": "red"}|$topic), 'signed with SHA-256');
query_is($node, row(deliver('signed', notification('three', '2', 'later'))), qq(three|{"color": "red"}|$topic), 'with another certificate');
my $before = requests('sns.pem');
my @ids = $sqs->send_messages('signed', map { { MessageBody => $json->encode(notification("many $_", '2', 'sns')) } } 1 .. 10);
query_is($node, q{SELECT count(*) FROM got WHERE body LIKE 'many %'}, '10', 'many of them');
cmp_ok(requests('sns.pem'), '<=', $before + 1, 'the certificate is kept');

# ---- what it has not

sub dies
{
	my ($body, $why, $name) = @_;
	my $id = deliver('signed', $body);
	query_is($node, "SELECT reason, sqlstate FROM sqs_dead_letters WHERE message_id = '$id'", 'verify_sns|SQ106', "$name: it is a dead letter");
	like($node->safe_psql('postgres', "SELECT message FROM sqs_dead_letters WHERE message_id = '$id'"), $why, "$name: it says why");
	is($node->safe_psql('postgres', row($id)), '', "$name: it was not handled");
	return;
}
my $forged = notification('pay 10', '2', 'sns');
$forged->{Message} = 'pay 1000';
dies($forged, qr/^message is not signed by SNS: its signature is not that of its content$/, 'another text');
my $plain = notification('x', '1', 'sns');
delete $plain->{Signature};
dies($plain, qr/: it has no signature$/, 'no signature');
dies('{"order": 1}', qr/: it is not of a type that SNS sends$/, 'another document');
dies('hello', qr/: it is not a JSON object$/, 'no document');
dies(notification('x', '2', 'sns', SigningCertURL => 'https://example.com/sns.pem'), qr/: its SigningCertURL must have the name of SNS's host in a region/, 'another host');
dies(notification('x', '2', 'sns', SigningCertURL => "https://$host/none.pem"), qr/: there is no certificate where it says$/, 'a certificate that does not exist');
dies(notification('x', '2', 'other'), qr/: the certificate is not in SNS's name$/, 'a certificate of somebody else');
my $body = $json->encode(notification('x', '2', 'sns'));
$body =~ s/^\{/{"extra":"\\u0000",/;
dies($body, qr/^message is not as SNS sends it: its envelope cannot be taken off$/, 'a document that PostgreSQL does not take');
is($node->safe_psql('postgres', q{SELECT count(*), min(sqlstate) FROM sqs_failures WHERE queue = 'signed'}), '8|SQ106', 'each is a failure, too');
unlike(slurp_file($requests), qr/example\.com/, 'nobody else was asked');

$node->safe_psql('postgres', q{SELECT sqs_set_error_rule('signed', 'SQ106', 'discard')});
my $id = deliver('signed', $forged);
query_is($node, q{SELECT discarded FROM sqs_stats WHERE queue = 'signed'}, '1', 'an error rule may say something else');
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_dead_letters WHERE message_id = '$id'"), '0', 'then there is no dead letter');

# ---- in batches

@ids = $sqs->send_messages('batches', map { { MessageBody => $json->encode($_ == 4 ? $forged : notification("batch $_", '2', 'sns')) } } 1 .. 9);
is(register('batches', q{verify_sns => true, unwrap => 'sns', max_attempts => 1}, 'handle_many'), '', 'a handler that takes batches');
query_is($node, q{SELECT count(*) FROM got WHERE queue = 'batches' AND body LIKE 'batch %'}, '8', 'gets what SNS has signed');
query_is($node, q{SELECT message_id, reason FROM sqs_dead_letters WHERE queue = 'batches'}, "$ids[3]|verify_sns", 'and nothing else');
is($node->safe_psql('postgres', q{SELECT batch_splits FROM sqs_stats WHERE queue = 'batches'}), '0', 'for which no batch is split');

# ---- without the option

$before = requests('sns.pem');
query_is($node, row(deliver('any', $forged)), qq(pay 1000|{"color": "red"}|$topic), 'without the option nothing is verified');
is(requests('sns.pem'), $before, 'nor fetched');

# ---- certificates that cannot be had

append_to_file("$dir/closed", '');
$id = deliver('waits', notification('patience', '2', 'sns'));
query_is($node, "SELECT DISTINCT sqlstate, message FROM sqs_failures WHERE message_id = '$id'",
	'08006|could not get the certificate of an SNS message: HTTP status 503', 'SNS is closed');
unlink("$dir/closed");
query_is($node, row($id), qq(patience|{"color": "red"}|$topic), 'the message waits for it, whatever max_attempts is');

$id = deliver('waits', notification('x', '2', 'untrusted'));
query_true($node, q{SELECT last_error LIKE '%: could not get the certificate of an SNS message: the certificate is not trusted: %'
	FROM sqs_stats WHERE queue = 'waits'}, 'a certificate that is not trusted may be due to this machine');
is($node->safe_psql('postgres', row($id)), '', 'the message is not handled');
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_dead_letters WHERE queue = 'waits'"), '0', 'nor a dead letter');

stop_ok($node);
check_log($node, $wrong);
done_testing();
