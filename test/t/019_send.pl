# sqs_send() and sqs_send_batch(): what goes over the network.
use strict;
use warnings;

use Digest::MD5 'md5_hex';
use IO::Socket::INET;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $MiB = 1024 * 1024;
my $sqs = start_sqs(
	queues => [
		qw(std exact split many order.fifo), 'content.fifo,ContentBasedDeduplication=true',
		'late,DelaySeconds=0', 'ill', 'ill.fifo', 'gone', 'paused', 'encoding'
	]);
my $node = new_node('main');

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue(q, server => 'aws')
  FROM unnest('{std,exact,split,many,order.fifo,content.fifo,late,ill,ill.fifo,gone}'::text[]) q;
SELECT sqs_register_queue('paused', server => 'aws', enabled => false);
SELECT sqs_register_queue('nowhere', server => 'aws', queue_name => 'not-at-aws');
EOQ

# What psql says to a script, errors with all there is to them.
sub says
{
	my ($script, %o) = @_;
	my ($status, $out, $err) = $node->psql($o{dbname} || 'postgres', "\\set VERBOSITY verbose\n$script",
		timeout => 120, on_error_stop => 0);
	return ($out, $err);
}

sub sql { return $node->safe_psql('postgres', shift); }

# The statement must fail in this way.
sub fails
{
	my ($statement, $pattern, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($out, $err) = says($statement, %o);
	return like($err, $pattern, $name);
}

# Numbers of sqsd's for a queue, in one string.
sub books
{
	my ($queue, @what) = @_;
	my $s = $sqs->stats($queue);
	return join(' ', map { /^[A-Z]/ ? ($s->{calls}{$_} || 0) : $s->{$_} } @what);
}

# A session that is kept: ask() waits for the end of what it is told.
package Session
{
	sub new
	{
		my ($class, $n) = @_;
		my $self = bless { in => '', out => '', err => '' }, $class;
		$self->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $n->connstr('postgres'), '-f', '-' ],
			'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, IPC::Run::timer(180));
		return $self;
	}

	sub tell
	{
		my ($self, $script) = @_;
		$self->{in} .= "$script\n";
		# pump() would wait for an answer
		$self->{run}->pump_nb while length $self->{in};
		return;
	}

	sub ask
	{
		my ($self, $script) = @_;
		my $mark = 'mark ' . ++$self->{marks} . '.';
		my @said;
		$self->tell("$script\n\\echo $mark\n\\warn $mark");
		$self->{run}->pump until $self->{out} =~ /\Q$mark\E\n/ && $self->{err} =~ /\Q$mark\E\n/;
		foreach my $text (qw(out err))
		{
			push @said, $self->{$text} =~ s/\n?\Q$mark\E\n//r;
			$self->{$text} = '';
		}
		return wantarray ? @said : $said[0];
	}

	# What it says until it ends by itself.
	sub last_words
	{
		my ($self) = @_;
		eval { $self->{run}->finish };
		return $self->{err};
	}

	sub end
	{
		my ($self) = @_;
		$self->{in} .= "\\q\n";
		eval { $self->{run}->finish };
		return;
	}
}

# A fault, until the sub is done; how often it fired.
sub suffering
{
	my ($rules, $sub) = @_;
	my @ids = map { $sqs->fault(%$_) } @$rules;
	$sub->();
	my %fired = map { $_->{id} => $_->{fired} } @{ $sqs->faults };
	$sqs->clear_faults($_) foreach @ids;
	return map { $fired{$_} } @ids;
}

sub receive
{
	my ($queue) = @_;
	my $reply = $sqs->call('ReceiveMessage',
		{ QueueUrl => $sqs->url($queue), MaxNumberOfMessages => 10, MessageAttributeNames => ['All'],
			MessageSystemAttributeNames => ['All'] });
	return sort { $a->{Body} cmp $b->{Body} } @{ $reply->{Messages} || [] };
}

# ---- one message, and what is in it

my $connections = $sqs->stats->{connections}{total};
my ($out) = says(<<'EOQ');
BEGIN;
SELECT sqs_send('std', 'a first one');
ROLLBACK;
SELECT count(sqs_send('std', 'again ' || i)) FROM generate_series(1, 20) i;
BEGIN READ ONLY;
SELECT sqs_send('std', 'read only') IS NOT NULL;
COMMIT;
EOQ
my @sent = @{ $sqs->messages('std') };
like($out, qr/^\Q$sent[0]{id}\E\n20\nt$/, 'sqs_send() returns the id that SQS gave');
is($sent[0]{body}, 'a first one', 'what is sent is sent, though the transaction is rolled back');
is(books('std', qw(sent SendMessage)), '22 22', 'a call per message');
# stats are asked by two requests of our own
is( $sqs->stats->{connections}{total} - $connections, 1 + 2 + 1,
	'a session has one connection for all its calls');
is($sqs->stats->{calls}{GetQueueUrl}, 1, 'and asks for the URL of a queue once');

$out = sql(<<'EOQ');
SELECT sqs_send('exact', 'body', $j${
  "s": "text", "n": 1.50, "big": 1e126,
  "d.string": {"DataType": "String.label", "StringValue": "\"quoted\" \\ and / \u00e4\u20ac\ud83d\ude00"},
  "d_number": {"DataType": "Number.int", "StringValue": "+007"},
  "D-BINARY": {"DataType": "Binary", "BinaryValue": "AAECA/8="},
  "png": {"DataType": "Binary.png", "BinaryValue": "iVBORw=="},
  "h": "\t\n\r", "i": "i", "sqsbridge-id": "own"}$j$, system_attributes => '{"AWSTraceHeader": "Root=1-5759e988"}') <> '';
EOQ
my ($got) = receive('exact');
is_deeply(
	$got->{MessageAttributes},
	{   s => { DataType => 'String', StringValue => 'text' },
		n => { DataType => 'Number', StringValue => '1.50' },
		big => { DataType => 'Number', StringValue => '1' . '0' x 126 },
		'd.string' => { DataType => 'String.label', StringValue => "\"quoted\" \\ and / \x{e4}\x{20ac}\x{1f600}" },
		d_number => { DataType => 'Number.int', StringValue => '+007' },
		'D-BINARY' => { DataType => 'Binary', BinaryValue => 'AAECA/8=' },
		png => { DataType => 'Binary.png', BinaryValue => 'iVBORw==' },
		h => { DataType => 'String', StringValue => "\t\n\r" },
		i => { DataType => 'String', StringValue => 'i' },
		'sqsbridge-id' => { DataType => 'String', StringValue => 'own' } },
	'ten attributes of all types arrive as they were given');
is($got->{Attributes}{AWSTraceHeader}, 'Root=1-5759e988', 'and the trace header');

# every legal character at a border of what is legal, and all of Latin-1
is( sql(<<'EOQ'), 't', 'every legal character is taken');
SELECT bool_and(error_code IS NULL AND message_id <> '') FROM sqs_send_batch('exact', ARRAY(
  SELECT sqs_outgoing(chr(c) || md5(chr(c)), jsonb_build_object('a', chr(c) || '"'))
  FROM (SELECT generate_series(32, 255) UNION ALL
        SELECT unnest('{9,10,13,55295,57344,65533,65536,1114111}'::int[])) t(c)))
EOQ
my $wrong = 0;
my %chars = map { $_->{body} => 1 } @{ $sqs->messages('exact') };
foreach my $c (32 .. 255, 9, 10, 13, 0xd7ff, 0xe000, 0xfffd, 0x10000, 0x10ffff)
{
	my $bytes = chr($c);
	utf8::encode($bytes);
	my $text = chr($c) . md5_hex($bytes);
	next if $chars{$text};
	$wrong++;
	diag(sprintf "U+%04X", $c);
}
is($wrong, 0, 'and arrives as it was');

# delays
sql(q{SELECT sqs_send('late', 'd0', delay => '0'), sqs_send('late', 'd900', delay => '15 min'), sqs_send('late', 'none')});
is(books('late', qw(visible delayed)), '2 1', 'a delay is SQS\'s business');
$sqs->advance(900);
is(books('late', qw(visible delayed)), '3 0', 'of 15 minutes');

# ---- sizes

is( sql(qq{SELECT sqs_send('split', repeat('x', $MiB)) <> '', sqs_send('split', repeat('"', $MiB - 8), '{"a": "b"}') <> '',
	sqs_send('split', repeat(chr(228), $MiB / 2)) <> ''}),
	't|t|t', 'messages of 1 MiB, encoded in more than that');
fails("SELECT sqs_send('split', repeat('x', $MiB + 1))", qr/ERROR:  54000: .* 1048577 bytes/, 'not a byte more');
is(books('split', qw(sent SendMessage)), '3 3', 'which is found out without SQS');

my @splits = (
	[ "3 of 1 MiB", 3, $MiB, 3 ],
	[ "2 of half a MiB", 2, $MiB / 2, 1 ],
	[ "2 of half a MiB and a byte", 2, $MiB / 2 + 1, 2 ],
	[ "25 of 100 kB", 25, 100_000, 3 ],
	[ "20 of 300 kB", 20, 300_000, 7 ]);
foreach my $case (@splits)
{
	my ($name, $n, $size, $requests) = @$case;
	my ($before_sent, $before_calls) = split / /, books('split', qw(sent SendMessageBatch));
	is( sql(qq{SELECT count(message_id), count(DISTINCT message_id), count(error_code)
		FROM sqs_send_batch('split', ARRAY(SELECT sqs_outgoing(repeat('\\', $size)) FROM generate_series(1, $n)))}),
		"$n|$n|0", "a batch with $name");
	is(books('split', qw(sent SendMessageBatch)), join(' ', $before_sent + $n, $before_calls + $requests),
		"takes $requests requests");
}
is($sqs->stats->{errors}, 0, 'SQS has had nothing to refuse');
is( sql(q{SELECT sent, send_failures, send_calls FROM sqs_stats WHERE queue = 'split'}),
	join('|', $sqs->stats('split')->{sent}, 1, $sqs->calls('split', 'SendMessage') + $sqs->calls('split', 'SendMessageBatch')),
	'sqs_stats has as many messages and calls as SQS, and the refusal');

# ---- numbers

foreach my $n (0, 1, 10, 11, 25, 1000, 10_000)
{
	my ($before_sent, $before_calls) = split / /, books('many', qw(sent SendMessageBatch));
	is( sql(qq{SELECT count(*), count(message_id), count(DISTINCT message_id), count(*) FILTER (WHERE num = ordinal),
			count(error_code), count(error_message), count(sender_fault), count(sequence_number)
		FROM ROWS FROM (sqs_send_batch('many', ARRAY(SELECT sqs_outgoing('$n: ' || i) FROM generate_series(1, $n) i)))
			WITH ORDINALITY t(ordinal, message_id, sequence_number, error_code, error_message, sender_fault, num)}),
		"$n|$n|$n|$n|0|0|0|0", "a batch of $n: a row per message, in its order");
	is( books('many', qw(sent SendMessageBatch)),
		join(' ', $before_sent + $n, $before_calls + int(($n + 9) / 10)), "sent once each, ten to a request");
}
my %bodies = map { $_->{body} => $_->{id} } @{ $sqs->messages('many') };
is(scalar(keys %bodies), 11_047, 'all are there');
$sqs->admin('POST', 'reset');

# which id belongs to which message; bad ones do not hinder good ones
$out = sql(q{SELECT ordinal, coalesce(message_id, error_code || ' ' || sender_fault) FROM sqs_send_batch('many',
	ARRAY(SELECT CASE WHEN i % 7 = 0 THEN sqs_outgoing('') WHEN i % 11 = 0 THEN NULL ELSE sqs_outgoing('b' || i) END
	      FROM generate_series(1, 100) i))});
%bodies = map { $_->{body} => $_->{id} } @{ $sqs->messages('many') };
is($out, join("\n", map { "$_|" . ($bodies{"b$_"} || 'MissingParameter true') } 1 .. 100),
	'each row is of its message, good or bad');
is(books('many', qw(sent SendMessageBatch)), '78 8', 'and the good ones are sent');
is(scalar(grep { $_ !~ /^[0-9a-f]{8}-/ } values %bodies), 0, 'the ids are SQS\'s');

# several requests at once: ten, each with a connection of its own, as none is
# free again soon enough
suffering(
	[ { kind => 'latency', ms => 1000, queue => 'many', action => 'SendMessageBatch' } ],
	sub {
		my $connections = $sqs->stats->{connections}{total};
		is(sql(q{SELECT count(message_id) FROM sqs_send_batch('many', ARRAY(SELECT sqs_outgoing('x') FROM generate_series(1, 100)))}),
			'100', 'a hundred messages with SQS slow');
		# (the last one is ours)
		cmp_ok($sqs->stats->{connections}{total} - $connections - 1, '>=', 10, 'requests are under way together');
	});

# ---- FIFO queues

my $fifo_order = sub {
	my ($queue, $name) = @_;
	my (%last, $swapped);
	foreach my $m (@{ $sqs->messages($queue) })
	{
		my ($group, $i) = $m->{body} =~ /^(\w+) (\d+)$/ or next;
		$swapped++ if ($last{$group} || 0) >= $i;
		$last{$group} = $i;
	}
	is($swapped || 0, 0, $name);
};
is( sql(q{SELECT count(*), count(message_id), count(DISTINCT sequence_number), bool_and(rises) FROM
	(SELECT *, coalesce(sequence_number > lag(sequence_number) OVER (PARTITION BY ordinal % 30 ORDER BY ordinal), true) AS rises
	 FROM sqs_send_batch('order.fifo', ARRAY(SELECT sqs_outgoing(format('g%s %s', i % 30, i), group_id => 'g' || i % 30,
		deduplication_id => 'd' || i) FROM generate_series(1, 600) i))) t}),
	'600|600|600|t', 'FIFO: sequence numbers rise with the place in the array, in each of 30 groups');
$fifo_order->('order.fifo', 'and that is their order in the queue');
is(books('order.fifo', qw(sent deduplicated)), '600 0', 'all were sent once');
is( sql(q{SELECT sqs_send('order.fifo', 'x', group_id => 'g', deduplication_id => 'same') =
	sqs_send('order.fifo', 'y', group_id => 'g', deduplication_id => 'same')}), 't', 'a deduplication id is used again');
is(books('order.fifo', qw(sent deduplicated)), '601 1', 'and SQS notices');
is( sql(q{SELECT count(DISTINCT sqs_send('content.fifo', 'the same', group_id => 'g')) FROM generate_series(1, 3)}), '1',
	'a queue may compute it');
fails(q{SELECT sqs_send('order.fifo', 'x', group_id => 'g')},
	qr/ERROR:  22023: could not send to queue "order.fifo": .*ContentBasedDeduplication.*\nDETAIL:  SendMessage: InvalidParameterValue.*, HTTP status 400, request id [0-9a-f-]+\. The message has not been sent\./s,
	'where it does not, SQS says so');

# entries that fail keep the order of their groups
my ($fired) = suffering(
	[ { kind => 'entry_fail', queue => 'ill.fifo', code => 'InternalError', message => 'try again', every => 7, count => 20 } ],
	sub {
		is( sql(q{SELECT count(message_id), count(error_code) FROM sqs_send_batch('ill.fifo', ARRAY(SELECT sqs_outgoing(
			format('g%s %s', i % 10, i), group_id => 'g' || i % 10, deduplication_id => 'd' || i) FROM generate_series(1, 100) i))}),
			'100|0', 'FIFO: entries that fail are tried again');
	});
cmp_ok($fired, '>=', 10, 'some did fail');
$fifo_order->('ill.fifo', 'and others of their group do not overtake them');
is(books('ill.fifo', qw(sent deduplicated)), '100 0', 'all were sent once');

# ---- entries that fail

sub batch { return sql("SELECT ordinal, message_id IS NOT NULL, error_code, error_message, sender_fault FROM sqs_send_batch('ill', $_[0])"); }

($fired) = suffering(
	[ { kind => 'entry_fail', queue => 'ill', code => 'InternalError', message => 'try again', every => 3, count => 2 } ],
	sub {
		my @rows = split /\n/, batch(q{ARRAY(SELECT sqs_outgoing('e' || i) FROM generate_series(1, 10) i)});
		is(scalar(grep { /^\d+\|t\|\|\|$/ } @rows), 10, 'entries that fail by no fault of the sender are sent again');
	});
my ($sent, $calls) = split / /, books('ill', qw(sent SendMessageBatch));
is($sent, 10, 'they and no others');
cmp_ok($calls, '>=', 2, 'in another request');
suffering(
	[ { kind => 'entry_fail', queue => 'ill', code => 'InternalError', message => 'not today' } ],
	sub {
		is(batch(q{ARRAY[sqs_outgoing('x')]}), '1|f|InternalError|not today|f', 'an entry that fails and fails is given up');
	});
is(books('ill', qw(sent SendMessageBatch)), join(' ', 10, $calls + 3), 'after three attempts');
suffering(
	[ { kind => 'entry_fail', queue => 'ill', code => 'InvalidMessageContents', message => 'no good',
			sender_fault => JSON::PP::true, every => 10 } ],
	sub {
		my @rows = split /\n/, batch(q{ARRAY(SELECT sqs_outgoing('f' || i) FROM generate_series(1, 10) i)});
		is(join(' ', grep { !/^\d+\|t\|\|\|$/ } @rows) =~ s/\d+\|//r, 'f|InvalidMessageContents|no good|t',
			'an entry that fails by fault of the sender is not sent again');
	});
my @refused = grep { $_->{body} =~ /^f/ } @{ $sqs->messages('ill') };
is(scalar(@refused), 9, 'the others are sent') or diag(scalar(@refused));
is(books('ill', qw(SendMessageBatch)), $calls + 4, 'in one request');
suffering(
	[ { kind => 'entry_fail', queue => 'ill', code => 'AWS.SimpleQueueService.Strange', message => '', sender_fault => JSON::PP::true } ],
	sub {
		like(batch(q{ARRAY[sqs_outgoing('x')]}), qr/^1\|f\|AWS\.SimpleQueueService\.Strange\|.+\|t$/,
			'a failed entry without a text, of a code that nobody knows');
	});

# ---- SQS unwell

my $state = sub { my ($code, $what) = @_; return qr/ERROR:  $code: could not send to queue "ill.*": .*\nDETAIL:  SendMessage: $what/; };
my $not = qr/\. The message has not been sent\./;
my $perhaps = qr/\. The message may have been sent nevertheless\./;
my $id = qr/, request id [0-9a-f-]{36}/;

# [name, fault, what sqs_send() says if it lasts]
my @illness = (
	[ 'throttling', { kind => 'error', status => 400, code => 'ThrottlingException', message => 'Rate exceeded' },
		$state->('53400', qr/ThrottlingException, HTTP status 400$id$not/) ],
	[ 'a 503', { kind => 'error', status => 503, body => '<html>' }, $state->('58000', qr/Http503, HTTP status 503$id$perhaps/) ],
	[ 'an empty 500', { kind => 'error', status => 500, body => '' }, $state->('58000', qr/Http500, HTTP status 500$id$perhaps/) ],
	[ 'a reset before', { kind => 'reset_before' }, $state->('08006', qr/Curl\d+$perhaps/) ],
	[ 'a reset after', { kind => 'reset_after' }, $state->('08006', qr/Curl\d+$perhaps/) ],
	[ 'a lost reply', { kind => 'lose_reply' }, $state->('08006', qr/Curl\d+$perhaps/) ],
	[ 'garbage', { kind => 'garbage' }, $state->('08006', qr/InvalidReply, HTTP status 200$id$perhaps/) ],
	[ 'a truncated reply', { kind => 'truncate' }, $state->('08006', qr/Curl\d+/) ]);
my $n = 0;
foreach my $case (@illness)
{
	my ($name, $rule, $error) = @$case;
	my $done = $rule->{kind} =~ /after|lose|garbage|truncate/;
	my $before = $sqs->stats('ill')->{sent};

	$n++;
	suffering(
		[ { %$rule, queue => 'ill', action => 'SendMessage', count => 1 } ],
		sub { like(sql("SELECT sqs_send('ill', 'one $n')"), qr/^[0-9a-f-]{36}$/, "$name, once: sqs_send() tries again"); });
	is($sqs->stats('ill')->{sent} - $before, $done ? 2 : 1, 'SQS took it ' . ($done ? 'twice: it has no way to know' : 'once'));
	$before = $sqs->stats('ill')->{sent};
	suffering(
		[ { %$rule, queue => 'ill', action => 'SendMessageBatch', count => 1 } ],
		sub {
			is(batch("ARRAY(SELECT sqs_outgoing('batch $n') FROM generate_series(1, 3))"), "1|t|||\n2|t|||\n3|t|||", "sqs_send_batch() does, too");
		});
	is($sqs->stats('ill')->{sent} - $before, $done ? 6 : 3, 'with the same result');
	($fired) = suffering(
		[ { %$rule, queue => 'ill', action => 'SendMessage' } ],
		sub { fails("SELECT sqs_send('ill', 'for ever $n')", $error, "$name, for ever: the error says what and whether"); });
	is($fired, 3, 'after three attempts');
}
# the same on a FIFO queue has no effect twice
suffering(
	[ { kind => 'reset_after', queue => 'ill.fifo', action => 'SendMessageBatch', count => 1 } ],
	sub {
		is(sql(q{SELECT count(message_id) FROM sqs_send_batch('ill.fifo', ARRAY(SELECT sqs_outgoing('r' || i, group_id => 'g' || i,
			deduplication_id => 'r' || i) FROM generate_series(1, 10) i))}), '10', 'FIFO: a reset after the work was done');
	});
is(books('ill.fifo', qw(sent deduplicated)), '110 10', 'is without effect');

($fired) = suffering(
	[ { kind => 'error', status => 503, code => 'ServiceUnavailable', message => 'later', queue => 'ill', action => 'SendMessageBatch' } ],
	sub {
		like(batch(q{ARRAY(SELECT sqs_outgoing('b') FROM generate_series(1, 25))}),
			qr/^(?:\d+\|f\|ServiceUnavailable\|later$id \(the message may have been sent nevertheless\)\|f\n?){10}(?:\d+\|f\|ServiceUnavailable\|later$id[^|\n]*\|f\n?){15}$/,
			'an outage under a batch: a row per message, with code and request id');
	});
cmp_ok($fired, '<=', 5, 'with few requests');

# what the first attempt has done, the last does not undo
$sent = $sqs->stats('ill')->{sent};
my @throttled = map { { kind => 'error', status => 400, code => 'ThrottlingException', message => 'Rate exceeded', queue => 'ill', action => $_ } }
  qw(SendMessage SendMessageBatch);
suffering(
	[ { kind => 'lose_reply', queue => 'ill', action => 'SendMessage', count => 1 }, @throttled ],
	sub { fails(q{SELECT sqs_send('ill', 'x')}, qr/ThrottlingException.*may have been sent nevertheless/, 'a lost reply, then throttling: it may have been sent'); });
is($sqs->stats('ill')->{sent}, $sent + 1, 'as it was');
suffering(
	[ { kind => 'lose_reply', queue => 'ill', action => 'SendMessageBatch', count => 1 }, @throttled ],
	sub { like(batch(q{ARRAY[sqs_outgoing('x')]}), qr/^1\|f\|ThrottlingException\|Rate exceeded.*may have been sent nevertheless/, 'the same in a batch'); });
is($sqs->stats('ill')->{sent}, $sent + 2, 'as it was');
suffering(
	[ { kind => 'garbage', queue => 'ill', action => 'SendMessage', count => 1 }, @throttled ],
	sub { fails(q{SELECT sqs_send('ill', 'x')}, qr/ThrottlingException.*may have been sent nevertheless/, 'garbage, then throttling'); });

# SQS is unwell before anything is sent
suffering(
	[ { kind => 'lose_reply', queue => 'ill', action => 'GetQueueUrl' } ],
	sub { fails(q{SELECT sqs_send('ill', 'x')}, qr/ERROR:  08006: .*\nDETAIL:  GetQueueUrl: Curl52$not/, 'when the queue is asked for, nothing has been sent'); });

# checksums
suffering(
	[ { kind => 'bad_md5', queue => 'ill' } ],
	sub {
		fails(q{SELECT sqs_send('ill', 'x')}, qr/ERROR:  XX001: could not send to queue "ill": .*MD5.*\nDETAIL:  .* with message id [0-9a-f-]{36}/,
			'SQS confirms another MD5: an error, which tells the id');
		like(batch(q{ARRAY[sqs_outgoing('x')]}), qr/^1\|t\|ChecksumMismatch\|.*may have been sent nevertheless\)\|f$/, 'in a batch as well');
	});

# statistics agree with the books
is(sql(q{SELECT sent = 10 + 9 + 8 * 4, send_failures > 0 FROM sqs_stats WHERE queue = 'ill'}), 't|t',
	'sqs_stats has counted what was sent, once each');

# ---- queues that are not there, or not in use

fails(q{SELECT sqs_send('nowhere', 'x')},
	qr/ERROR:  42704: could not send to queue "nowhere": .*\nDETAIL:  GetQueueUrl: .*(?:NonExistentQueue|QueueDoesNotExist).*$id$not\nHINT:  Check that the queue exists/,
	'a queue that is not there');
fails(q{SELECT * FROM sqs_send_batch('nowhere', ARRAY[sqs_outgoing('x')])}, qr/ERROR:  42704: .*"nowhere"/, 'under a batch');
my $session = Session->new($node);
my $sent_one = qr/^[0-9a-f-]{36}$/;
$session->ask('\set VERBOSITY verbose');
like(scalar $session->ask(q{SELECT sqs_send('gone', 'x');}), $sent_one, 'a queue is there');
$sqs->call('DeleteQueue', { QueueUrl => $sqs->url('gone') });
($out, my $err) = $session->ask(q{SELECT sqs_send('gone', 'x');});
like($err, qr/ERROR:  42704: .*\nDETAIL:  SendMessage: /, 'it is deleted');
($out, $err) = $session->ask(q{SELECT * FROM sqs_send_batch('gone', ARRAY[sqs_outgoing('x')]);});
like($err, qr/ERROR:  42704: .*\nDETAIL:  GetQueueUrl: /, 'a session that knew it looks again');
$sqs->create_queue('gone');
like(scalar $session->ask(q{SELECT sqs_send('gone', 'x');}), $sent_one, 'and finds it when it is made anew');
$session->end;
is(sql(q{SELECT sqs_send('paused', 'x') <> ''}), 't', 'a queue that is disabled receives nothing, but is sent to');
is(books('paused', 'sent'), 1, 'indeed');

# ---- from within functions: errors are caught, handlers send

$out = sql(<<'EOQ');
CREATE TABLE caught (state text, message text);
DO $$
BEGIN
  FOR i IN 1 .. 3 LOOP
    BEGIN
      PERFORM sqs_send('nowhere', 'x');
    EXCEPTION WHEN undefined_object THEN
      INSERT INTO caught VALUES (SQLSTATE, SQLERRM);
    END;
    PERFORM sqs_send('many', 'between errors ' || i);
  END LOOP;
END $$;
SELECT count(*) FROM caught;
CREATE FUNCTION forward(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM sqs_send('many', 'forwarded ' || m.body);
END $$;
SELECT sqs_alter_queue('late', handler => 'forward', concurrency => 2);
EOQ
is($out, "3\n", 'an error can be caught, and the next message be sent');
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'late'}, 'polling', 'a handler that sends');
$sqs->send_messages('late', map { "m$_" } 1 .. 30);
$sqs->is_empty('late');
my %forwarded = map { $_->{body} => 1 } grep { $_->{body} =~ /^forwarded m/ } @{ $sqs->messages('many') };
is(scalar(keys %forwarded), 30, 'each of its messages is sent on');
is(scalar(grep { $_->{body} =~ /^between/ } @{ $sqs->messages('many') }), 3, 'beside the others');
sql(q{SELECT sqs_disable_queue('late')});

# ---- keys

my $strict = start_sqs(args => [ '--access-key', 'AKIDONE', '--secret-key', 'one', '--access-key', 'AKIDTWO', '--secret-key', 'two', '--queue', 'q' ]);
my $endpoint = $strict->endpoint;
sql(<<EOQ);
CREATE SERVER strict FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
CREATE ROLE one LOGIN; CREATE ROLE two LOGIN; CREATE ROLE three LOGIN; CREATE ROLE nobody LOGIN;
GRANT USAGE ON FOREIGN SERVER strict TO one, two, three;
CREATE USER MAPPING FOR one SERVER strict OPTIONS (access_key_id 'AKIDONE', secret_access_key 'one');
CREATE USER MAPPING FOR two SERVER strict OPTIONS (access_key_id 'AKIDTWO', secret_access_key 'wrong');
SELECT sqs_register_queue('strict', server => 'strict', queue_name => 'q');
EOQ
($out, $err) = says(<<'EOQ');
SET ROLE one;
SELECT 'one', sqs_send('strict', 'x') <> '';
SET ROLE two;
SELECT 'two', sqs_send('strict', 'x') <> '';
RESET ROLE;
ALTER USER MAPPING FOR two SERVER strict OPTIONS (SET secret_access_key 'two');
SET ROLE two;
SELECT 'two again', sqs_send('strict', 'x') <> '';
SET ROLE nobody;
SELECT 'nobody', sqs_send('strict', 'x') <> '';
SET ROLE three;
SELECT 'three', sqs_send('strict', 'x') <> '';
EOQ
is($out, "one|t\ntwo again|t", 'each role sends with keys of its own; a changed key is used at once');
my @errors = $err =~ /ERROR:  (\w+): .*/g;
is("@errors", '28000 42501 28000', 'a wrong key, no USAGE, no keys');
unlike($err, qr/wrong|'two'/, 'errors tell no secret');
is($strict->stats('q')->{sent}, 2, 'what was to be sent was');
$strict->stop_sqs;

# ---- other encodings

sql(q{CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
sql(q{CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0});
foreach my $db (qw(latin1 ascii))
{
	setup_database($node, $sqs, dbname => $db);
	$node->safe_psql($db, q{SELECT sqs_register_queue('encoding', server => 'aws')});
}
is( $node->safe_psql('latin1', <<'EOQ'), 't', 'LATIN1: every character is sent');
SET client_encoding = 'UTF8';
SELECT bool_and(message_id IS NOT NULL) FROM sqs_send_batch('encoding', ARRAY(
  SELECT sqs_outgoing('l' || chr(c), jsonb_build_object('a', chr(c), 'b', jsonb_build_object('DataType', 'String.' || chr(c), 'StringValue', 'x')))
  FROM generate_series(160, 255) c));
EOQ
# ten batches at once: in any order
is(join('', sort map { substr $_->{body}, 1 } @{ $sqs->messages('encoding') }), join('', map { chr } 160 .. 255), 'and arrives in UTF-8');
($got) = receive('encoding');
is_deeply([ map { $_->{StringValue} || '', $_->{DataType} } @{ $got->{MessageAttributes} }{qw(a b)} ],
	[ chr(160), 'String', 'x', 'String.' . chr(160) ], 'so do attributes and their types');
fails("SELECT sqs_send('encoding', repeat(chr(228), $MiB / 2 + 1))", qr/ERROR:  54000: .* 1048578 bytes/, 'sizes are those in UTF-8', dbname => 'latin1');
fails(q{SELECT sqs_send('encoding', 'x', jsonb_build_object('a', jsonb_build_object('DataType', chr(228), 'StringValue', 'x')))},
	qr/ERROR:  22023: .*invalid type "\xe4" of/, 'messages are in the database\'s encoding', dbname => 'latin1');
is( $node->safe_psql('ascii', q{SELECT sqs_send('encoding', E'asc\xc3\xa4', jsonb_build_object('a', E'\xe2\x82\xac')) <> ''}), 't', 'SQL_ASCII: UTF-8 is sent');
($got) = grep { $_->{Body} =~ /^asc/ } map { receive('encoding') } 1 .. 12;
is("$got->{Body} $got->{MessageAttributes}{a}{StringValue}", "asc\x{e4} \x{20ac}", 'as what it is');
foreach my $case ([ 'body', q{E'\xe4'} ], [ 'attribute', q{'x', jsonb_build_object('a', E'\xe4')} ],
	[ 'long attribute', q{'x', jsonb_build_object('a', jsonb_build_object('DataType', 'String', 'StringValue', E'a\xc3'))} ])
{
	fails("SELECT sqs_send('encoding', $case->[1])", qr/ERROR:  22021: .*is not valid UTF-8/, "$case->[0]: nothing else is", dbname => 'ascii');
}

# ---- cancelled, whatever the network does

# Listeners that misbehave: one whose backlog is full, so that nobody gets a
# connection, and one that accepts and says nothing.
my $full = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', Proto => 'tcp') or die $!;
my @fill = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $full->sockport, Proto => 'tcp', Blocking => 0) } 1 .. 4;
my $mute = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1', Proto => 'tcp') or die $!;
my %place = (
	'no connection' => 'http://127.0.0.1:' . $full->sockport,
	'no TLS handshake' => 'https://127.0.0.1:' . $mute->sockport,
	'no reply' => 'http://127.0.0.1:' . $mute->sockport);
my $serial = 0;
foreach my $name (sort keys %place)
{
	$serial++;
	sql(<<EOQ);
CREATE SERVER bad$serial FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$place{$name}');
CREATE USER MAPPING FOR PUBLIC SERVER bad$serial OPTIONS (access_key_id 'AKIDTEST', secret_access_key 'secret');
SELECT sqs_register_queue('bad$serial', server => 'bad$serial', queue_name => '$place{$name}/000000000000/q');
EOQ
}

my $waits = sub {
	my ($pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid AND state = 'active'", 'Extension', 'it waits');
};
my $large = "repeat('x', $MiB)";
my @hung = (
	(map { my $q = "bad$_"; ([ "$q: sqs_send", "SELECT sqs_send('$q', 'x')" ]) } 1 .. $serial),
	[ 'an upload that stops', "SELECT sqs_send('bad3', $large)" ],
	[ 'sixteen uploads', "SELECT * FROM sqs_send_batch('bad3', ARRAY(SELECT sqs_outgoing($large) FROM generate_series(1, 20)))" ],
	[ 'a black hole', "SELECT sqs_send('ill', 'x')" ],
	[ 'a black hole under a batch', "SELECT * FROM sqs_send_batch('ill', ARRAY(SELECT sqs_outgoing('x') FROM generate_series(1, 1000)))" ]);
my @holes = map { $sqs->fault(kind => 'blackhole', queue => 'ill', action => $_) } qw(SendMessage SendMessageBatch);
foreach my $case (@hung)
{
	my ($name, $statement) = @$case;
	foreach my $function ($name =~ /^bad/ ? 'pg_cancel_backend' : ('pg_cancel_backend', 'pg_terminate_backend'))
	{
		my $client = Session->new($node);
		my ($pid) = $client->ask("\\set VERBOSITY verbose\nSELECT pg_backend_pid();");
		$client->tell("$statement;");
		$waits->($pid);
		is(sql("SELECT $function($pid)"), 't', "$name: $function");
		# a call that had ended by itself would say so
		if ($function eq 'pg_cancel_backend')
		{
			($out, $err) = $client->ask(q{SELECT sqs_send('std', 'after') <> '';});
			is($out, 't', "$name: canceled, and the session goes on");
			is(join(' ', $err =~ /ERROR:  (\w+)/g), '57014', "$name: with the error of a cancel");
		}
		else
		{
			$err = $client->last_words;
			is(join(' ', $err =~ /(?:ERROR|FATAL):  (\w+)/g), '57P01', "$name: it is terminated without another word");
			next;
		}
		$client->end;
	}
}
# statement_timeout, and the same connection again
$sent = $sqs->stats('ill')->{sent};
($out, $err) = says(qq{SELECT sqs_send('std', 'x') <> '';
	SET statement_timeout = '300ms'; SELECT sqs_send('ill', 'x'); RESET statement_timeout;
	SELECT sqs_send('std', 'y') <> ''; BEGIN; SAVEPOINT s; SET statement_timeout = '300ms'; SELECT sqs_send('ill', 'x'); ROLLBACK TO s;
	SELECT sqs_send('std', 'z') <> ''; COMMIT;});
is($out, "t\nt\nt", 'statement_timeout: the session goes on');
is(join(' ', $err =~ /ERROR:  (\w+)/g), '57014 57014', 'and has the error');
# what is abandoned leaves nothing behind
$session = Session->new($node);
my $pid = $session->ask('SELECT pg_backend_pid();');
my $hang = 'SELECT * FROM sqs_send_batch(\'ill\', ARRAY(SELECT sqs_outgoing(\'x\') FROM generate_series(1, 160)));';
my @open;
foreach my $round (1 .. 3)
{
	($out, $err) = $session->ask("\\set VERBOSITY verbose\nSET statement_timeout = '100ms';" . "\n$hang" x 7);
	is(join(' ', $err =~ /ERROR:  (\w+)/g), join(' ', ('57014') x 7), 'sixteen requests are abandoned, and again');
	push @open, scalar(my @fds = glob "/proc/$pid/fd/*");
}
cmp_ok($open[2], '<=', $open[0] + 2, "no descriptor is left (@open)");
$session->end;
$sqs->clear_faults($_) foreach @holes;
is($sqs->stats('ill')->{sent}, $sent, 'nothing was sent late');

if ($long)
{
	# a call ends by itself after 30 s
	my $hole = $sqs->fault(kind => 'blackhole', queue => 'ill', action => 'SendMessage');
	fails(q{SELECT sqs_send('ill', 'x')}, $state->('08006', qr/Curl28.*$perhaps/), 'a black hole: an error, in the end');
	fails(q{SELECT sqs_send('bad2', 'x')}, qr/ERROR:  08006: .*\nDETAIL:  SendMessage: Curl28$not/, 'no connection: an error, too');

	# also when the look for the queue has taken most of it
	my $slow = $sqs->fault(kind => 'latency', ms => 26000, queue => 'ill', action => 'GetQueueUrl');
	fails(q{SELECT sqs_send('ill', 'x')}, $state->('08006', qr/Curl28.*$perhaps/), 'found late, sent to a black hole: the same');
	$sqs->clear_faults($slow);
	$sqs->clear_faults($hole);

	# memory does not grow
	$session = Session->new($node);
	$pid = $session->ask('SELECT pg_backend_pid();');
	my @size;
	foreach my $round (1 .. 3)
	{
		is(scalar $session->ask(q{SELECT count(sqs_send('many', repeat('x', i % 10000 + 1), '{"a": "b"}')) FROM generate_series(1, 10000) i;}), '10000', '10,000 messages');
		is(scalar $session->ask(q{SELECT count(message_id) FROM sqs_send_batch('many', ARRAY(SELECT sqs_outgoing(repeat('x', 1000)) FROM generate_series(1, 10000)));}),
			'10000', 'and a batch of as many');
		push @size, slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
	}
	cmp_ok($size[2], '<', $size[0] + 4096, "the session stays as large as it was (@size kB)");
	$session->end;

	is(sql(q{SELECT count(DISTINCT message_id) FROM sqs_send_batch('many', ARRAY(SELECT sqs_outgoing('long ' || i) FROM generate_series(1, 100000) i))}),
		'100000', 'a batch of 100,000');
}

$node->stop;
check_log($node, qr/ERROR:  (?:cannot|could not) send to queue/, qr/canceling statement due to/, qr/FATAL:  terminating connection/,
	qr/permission denied for foreign server strict/);
done_testing();
