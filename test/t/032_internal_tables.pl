# What administrators do to tables, done to those of the extension: indexes of
# all kinds, constraints, triggers, policies, maintenance, locks.  All of it
# works, or is refused in plain words; no message is lost for it or taken for
# another, no row is sent twice, and no worker ends.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
our $sqs = start_sqs(
	queues => [
		'ticker', 'dead', 'in,VisibilityTimeout=20,dlq=dead:10', 'in.fifo,VisibilityTimeout=20', 'out', 'out.fifo', 'refused',
		'unique,VisibilityTimeout=2', 'held'
	]);
our $node = new_node('main');
my $tmp = PostgreSQL::Test::Utils::tempdir();

# ---- another default table access method

$node->safe_psql('postgres', <<'EOQ');
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
ALTER DATABASE postgres SET default_table_access_method = heap2;
EOQ
setup_database($node, $sqs);
is( $node->safe_psql('postgres', "SELECT string_agg(DISTINCT amname, ', ') FROM pg_depend d
		JOIN pg_class c ON c.oid = d.objid JOIN pg_am a ON a.oid = relam
		WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_extension'::regclass AND deptype = 'e' AND relkind = 'r'"),
	'heap', 'the tables are heaps, whatever the default is');
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET default_table_access_method');

my @tables = split /\n/, $node->safe_psql('postgres', <<'EOQ');
SELECT format('%I.%I', nspname, relname) FROM pg_depend d
JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = relnamespace
WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_extension'::regclass AND deptype = 'e' AND relkind = 'r'
ORDER BY 1
EOQ

# ---- what flows meanwhile

$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE low LOGIN;
CREATE SCHEMA low AUTHORIZATION low;
GRANT USAGE ON SCHEMA low TO PUBLIC;
CREATE TABLE low.ran (what text, who text DEFAULT current_user);
GRANT INSERT ON low.ran TO PUBLIC;
ALTER TABLE low.ran OWNER TO low;
CREATE FUNCTION low.trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO low.ran VALUES (TG_OP || ' ' || TG_TABLE_NAME);
  RETURN NULL;
END $$;
ALTER FUNCTION low.trigger OWNER TO low;
CREATE TABLE got (id bigint GENERATED ALWAYS AS IDENTITY, queue text, body text, group_id text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.body LIKE 'poison%' THEN
    RAISE 'this one is poison: %', m.body;
  END IF;
  INSERT INTO got (queue, body, group_id) VALUES (m.queue, m.body, m.group_id);
  PERFORM sqs_enqueue('out', m.queue || ': ' || m.body);
END $$;
SELECT sqs_register_queue('ticker', server => 'aws', handler => 'handle', wait_time => '1 s');
SELECT sqs_register_queue(q, server => 'aws', handler => 'handle', concurrency => 2, wait_time => '1 s', retry_delay => '0 s')
FROM unnest(ARRAY['in', 'in.fifo']) q;
SELECT sqs_register_queue('unique', server => 'aws', handler => 'handle', wait_time => '1 s');
SELECT sqs_register_queue(q, server => 'aws') FROM unnest(ARRAY['out', 'out.fifo', 'refused', 'held']) q;
SELECT sqs_disable_queue('held');
INSERT INTO sqs_outbox (queue, body) SELECT 'held', 'held ' || i FROM generate_series(1, 3) i;
EOQ
$sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'refused',
	code => 'InvalidMessageContents', message => 'not this', sender_fault => JSON::PP::true());
# requests are under way for a while, so that there is something to forget
my $slow = $sqs->fault(kind => 'latency', ms => 300, action => 'SendMessageBatch');

my %messages = (in => 0, 'in.fifo' => 0);
my %rows = (out => 0, 'out.fifo' => 0, refused => 0);

# Some more of everything.
sub more
{
	my ($n) = @_;
	$n ||= 20;
	foreach my $queue (keys %messages)
	{
		$sqs->fill($queue, $n, body => "$queue {i}", start => $messages{$queue} + 1, groups => 4);
		$messages{$queue} += $n;
	}
	$sqs->fill('in', 1, body => 'poison');
	$node->safe_psql('postgres', <<EOQ);
INSERT INTO sqs_outbox (queue, body) SELECT 'out', 'row ' || i FROM generate_series($rows{out} + 1, $rows{out} + $n) i;
INSERT INTO sqs_outbox (queue, body, group_id, deliver_at)
SELECT 'out.fifo', i, 'g' || i % 4, CASE WHEN i % 7 = 0 THEN now() + interval '1 s' END
FROM generate_series($rows{'out.fifo'} + 1, $rows{'out.fifo'} + $n) i;
INSERT INTO sqs_outbox (queue, body) VALUES ('refused', 'refused'), ('refused', 'refused');
EOQ
	$rows{out} += $n;
	$rows{'out.fifo'} += $n;
	$rows{refused} += 2;
	return;
}

# All that there is, and all of it once.
sub all_is_done
{
	my ($name, %o) = @_;
	my $timeout = $o{timeout} || 90;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $queue (sort keys %messages)
	{
		query_is($node, "SELECT count(*), count(DISTINCT body) FROM got WHERE queue = '$queue'",
			"$messages{$queue}|$messages{$queue}", "$name: $queue: each message is handled once", timeout => $timeout);
	}
	query_is($node, "SELECT count(*) FROM sqs_outbox WHERE queue <> 'held'", '0', "$name: the outbox is sent", timeout => $timeout);
	my %times;
	$times{ $_->{body} }++ foreach @{ $sqs->messages('out') };
	my @expected = map({ "row $_" } 1 .. $rows{out}),
	  map({ my $queue = $_; map { "$queue: $queue $_" } 1 .. $messages{$queue} } keys %messages);
	my @wrong = grep { ($times{$_} || 0) != 1 } (@expected, keys %times);
	is(join(', ', @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]), '', "$name: each row once");
	my %fifo;
	push @{ $fifo{ $_ % 4 } }, $_ foreach map { $_->{body} } @{ $sqs->messages('out.fifo') };
	my @fifo = sort { $a <=> $b } map { @$_ } values %fifo;
	is("@fifo", join(' ', 1 .. $rows{'out.fifo'}), "$name: and each of those in groups");
	query_is($node, "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'refused'", $rows{refused},
		"$name: what is refused is kept", timeout => $timeout)
	  unless $o{no_failures};
	is($node->safe_psql('postgres', 'SELECT * FROM low.ran'), '', "$name: nothing of a stranger's has run");
	return;
}

my $workers = "SELECT string_agg(pid::text, ',' ORDER BY pid) FROM sqs_stats_workers WHERE kind <> 'handler worker'";
my $same;

sub workers_are_the_same
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->safe_psql('postgres', $workers), $same, "$name: no worker has been restarted");
}

more();
all_is_done('in peace');
$same = $node->safe_psql('postgres', $workers);

# ---- indexes

my @create;
foreach my $table (@tables)
{
	my @columns = map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres',
		"SELECT quote_ident(attname), atttypid::regtype FROM pg_attribute
		WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped");
	foreach my $column (@columns)
	{
		my ($c, $type) = @$column;
		my @kinds = (
			"($c) WHERE $c IS NOT NULL",
			"USING brin ($c)",
			"(($c IS NULL), ($c IS NOT NULL)) INCLUDE ($columns[0][0])");
		push @kinds, "(left($c, 80), md5($c))", "(length($c)) WHERE $c LIKE '%1%'", "USING hash ($c)",
		  "USING gin (to_tsvector('simple', $c))", "USING gist (to_tsvector('english', $c)) WHERE $c <> 'x'"
		  if $type eq 'text';
		push @kinds, "USING gin ($c jsonb_path_ops)", "(($c ->> 'a'))" if $type eq 'jsonb';
		push @kinds, "(($c % 2)) WHERE $c % 3 = 0" if $type =~ /^(integer|bigint)$/;
		push @create, "CREATE INDEX lore" . @create . " ON $table $_" foreach @kinds;
	}
}
# a key made once more
foreach my $index (split /\n/, $node->safe_psql('postgres',
		"SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indisprimary AND indrelid::regclass::text = ANY ('{"
		  . join(',', @tables) . "}')"))
{
	push @create, $index =~ s/INDEX \S+/'INDEX lore' . @create/er;
}
# (not all types have all kinds of index)
$node->psql('postgres', join(";\n", @create), on_error_stop => 0, timeout => 180);
my @indexes = split /\n/, $node->safe_psql('postgres', "SELECT indexrelid::regclass FROM pg_index WHERE indexrelid::regclass::text ~ '\\.lore'");
cmp_ok(scalar(@indexes), '>', 100, 'indexes of all kinds can be made');
more(40);
all_is_done('indexes');
$node->safe_psql('postgres', "SELECT sqs_outbox_retry(id) FROM (SELECT id FROM sqs_outbox_failures LIMIT 1) x");
$node->safe_psql('postgres', "SELECT sqs_alter_queue('in', batch_size => 9); SELECT sqs_register_queue('another', server => 'aws');
	SELECT sqs_unregister_queue('another')");
all_is_done('indexes');
workers_are_the_same('indexes');
# what they find is what is there
if ($node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"))
{
	$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
	my ($rc, undef, $stderr) = $node->psql('postgres', <<'EOQ' =~ s/TABLES/join ',', @tables/er);
SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = relam
WHERE amname = 'btree' AND indrelid::regclass::text = ANY ('{TABLES}')
EOQ
	is($stderr, '', 'they have all rows');
}
foreach my $case ([ 'sqsbridge_internal.failures', 'queue', "message LIKE '%poison%'" ],
	[ 'sqsbridge_internal.inbox', 'queue_id', 'queue_id > 0' ])
{
	my ($table, $column, $where) = @$case;
	$node->safe_psql('postgres', "CREATE INDEX lore_partial ON $table ($column) WHERE $where");
	more(5);
	all_is_done("a partial index on $table");
	my $count = "SELECT count(*) FROM $table WHERE $where";
	is( $node->safe_psql('postgres', "SET enable_seqscan = off; SET enable_bitmapscan = off; $count"),
		$node->safe_psql('postgres', "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; $count"),
		"a partial index on $table counts right");
	$node->safe_psql('postgres', 'DROP INDEX ' . ($table =~ s/\..*//r) . '.lore_partial');
}
$node->safe_psql('postgres', join(";\n", map { "DROP INDEX $_" } @indexes));

# Functions of others' in an index would run as whoever writes.
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION low.f(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  INSERT INTO low.ran VALUES ('index');
  RETURN $1;
EXCEPTION WHEN OTHERS THEN
  RETURN $1;
END $$;
ALTER FUNCTION low.f OWNER TO low;
EOQ
foreach my $index ('sqsbridge_internal.failures (low.f(message))', 'sqsbridge_internal.inbox (low.f(message_key))',
	'sqsbridge_internal.outbox_rows (low.f(body))')
{
	my ($table) = $index =~ /(\S+)/;
	my ($rc) = $node->psql('postgres', "CREATE INDEX lore_function ON $index");
	$node->safe_psql('postgres', 'TRUNCATE low.ran');
	if ($table =~ /outbox/)
	{
		# (a handler that enqueues would fail for it)
		my (undef, undef, $stderr) = $node->psql('postgres', "INSERT INTO sqs_outbox (queue, body) VALUES ('out', 'x')");
		like($stderr, qr/index "lore_function" calls a function that is not built in/,
			"an index with somebody's function on $table is refused in plain words");
	}
	else
	{
		more(5);
	}
	seconds_pass($node, 5, "an index with somebody's function on $table");
	is($node->safe_psql('postgres', "SELECT DISTINCT what || ' as ' || who FROM low.ran"), '',
		'which is not run by anybody else');
	$node->safe_psql('postgres', 'DROP INDEX ' . ($table =~ s/\..*//r) . '.lore_function') if $rc == 0;
	all_is_done("no such index on $table");
}

# ---- a unique index of somebody's: only the inbox's own key says that a
# message has been handled before

{
	my $id = $node->safe_psql('postgres', "SELECT queue_id FROM sqs_queues WHERE name = 'unique'");
	$node->safe_psql('postgres', "CREATE UNIQUE INDEX lore_unique ON sqsbridge_internal.inbox (queue_id) WHERE queue_id = $id");
	$sqs->fill('unique', 3, body => 'unique {i}');
	query_is($node, "SELECT count(*) FROM got WHERE queue = 'unique'", '1', 'unique: one message can be handled');
	seconds_pass($node, 5, 'unique: time passes');
	is($node->safe_psql('postgres', "SELECT count(*) FROM got WHERE queue = 'unique'"), '1', 'unique: the others cannot');
	my $c = $sqs->counts('unique');
	is($c->{visible} + $c->{in_flight}, 2, 'unique: SQS has them still');
	is($node->safe_psql('postgres', "SELECT duplicates FROM sqs_stats WHERE queue = 'unique'"), '0',
		'unique: they do not count as duplicates');
	query_is($node, "SELECT count(*) > 0 FROM (SELECT message FROM sqs_failures WHERE queue = 'unique'
			UNION ALL SELECT last_error FROM sqs_stats WHERE queue = 'unique') x WHERE message LIKE '%lore_unique%'", 't',
		'unique: it is said why');
	$node->safe_psql('postgres', 'DROP INDEX sqsbridge_internal.lore_unique');
	query_is($node, "SELECT count(*), count(DISTINCT body) FROM got WHERE queue = 'unique'", '3|3',
		'unique: without the index they are handled');
	$sqs->is_empty('unique');
	}
workers_are_the_same('a unique index');

# ---- CHECK constraints

{
	my ($rc, undef, $stderr);
	$node->safe_psql('postgres', "ALTER TABLE sqsbridge_internal.outbox_rows ADD CONSTRAINT lore CHECK (body <> 'forbidden')");
	($rc, undef, $stderr) = $node->psql('postgres', "INSERT INTO sqs_outbox (queue, body) VALUES ('out', 'forbidden')");
	like($stderr, qr/violates check constraint "lore"/, 'a CHECK constraint is for the outbox, too');
	$node->safe_psql('postgres', 'ALTER TABLE sqsbridge_internal.outbox_rows DROP CONSTRAINT lore');

	# without an expression anywhere, rows are inserted in another way
	my $two = "INSERT INTO sqs_outbox (queue, body, deliver_at, attributes)
		SELECT 'out', 'the same', 'tomorrow', '{\"n\": 1}' FROM generate_series(1, 2)";
	$node->safe_psql('postgres', 'ALTER TABLE sqsbridge_internal.outbox_rows ADD CONSTRAINT lore UNIQUE (deliver_at, body)');
	($rc, undef, $stderr) = $node->psql('postgres', $two);
	like($stderr, qr/violates unique constraint "lore"/, 'a unique constraint is for the outbox, too');
	$node->safe_psql('postgres', 'ALTER TABLE sqsbridge_internal.outbox_rows DROP CONSTRAINT lore,
		ADD CONSTRAINT lore EXCLUDE USING btree (deliver_at WITH =)');
	($rc, undef, $stderr) = $node->psql('postgres', $two);
	like($stderr, qr/violates exclusion constraint "lore"/, 'and an exclusion constraint');
	$node->safe_psql('postgres', 'ALTER TABLE sqsbridge_internal.outbox_rows DROP CONSTRAINT lore');
	$node->safe_psql('postgres', <<'EOQ');
ALTER TABLE sqsbridge_internal.failures ADD CONSTRAINT lore CHECK (message IS NULL) NOT VALID;
ALTER TABLE sqsbridge_internal.outbox_failures ADD CONSTRAINT lore CHECK (false) NOT VALID;
EOQ
	more();
	query_is($node, "SELECT count(*) FROM sqs_outbox WHERE queue NOT IN ('held', 'refused')", '0',
		'failures that cannot be written: all others are sent', timeout => 60);
	seconds_pass($node, 8, 'failures that cannot be written: for a while');
	query_is($node, "SELECT last_error LIKE '%lore%', state = 'backing off' FROM sqs_stats_outbox WHERE queue = 'refused'", 't|t',
		'failures that cannot be written: the view says so');
	cmp_ok($sqs->calls('refused', 'SendMessageBatch'), '<', 60, 'failures that cannot be written: SQS is not asked all the time');
	$node->safe_psql('postgres', <<'EOQ');
ALTER TABLE sqsbridge_internal.failures DROP CONSTRAINT lore;
ALTER TABLE sqsbridge_internal.outbox_failures DROP CONSTRAINT lore;
EOQ
	$sqs->clear_faults($slow);
	all_is_done('failures that can be written again');
	$slow = $sqs->fault(kind => 'latency', ms => 300, action => 'SendMessageBatch');
	workers_are_the_same('CHECK constraints');
}

# ---- triggers, policies

foreach my $table (@tables)
{
	$node->safe_psql('postgres', <<EOQ);
CREATE TRIGGER aaa BEFORE INSERT OR UPDATE OR DELETE ON $table FOR EACH ROW EXECUTE FUNCTION low.trigger();
CREATE CONSTRAINT TRIGGER zzz AFTER INSERT OR UPDATE OR DELETE ON $table
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION low.trigger();
ALTER TABLE $table ENABLE ALWAYS TRIGGER aaa;
ALTER TABLE $table ENABLE ALWAYS TRIGGER zzz;
CREATE POLICY nothing ON $table USING (false) WITH CHECK (false);
ALTER TABLE $table ENABLE ROW LEVEL SECURITY;
ALTER TABLE $table FORCE ROW LEVEL SECURITY;
EOQ
}
more();
$node->safe_psql('postgres', "SELECT sqs_alter_queue('in', batch_size => 10); SELECT sqs_register_queue('another', server => 'aws');
	SELECT sqs_unregister_queue('another')");
all_is_done('triggers and policies');
workers_are_the_same('triggers and policies');
foreach my $table (@tables)
{
	$node->safe_psql('postgres', <<EOQ);
DROP TRIGGER aaa ON $table;
DROP TRIGGER zzz ON $table;
ALTER TABLE $table NO FORCE ROW LEVEL SECURITY;
ALTER TABLE $table DISABLE ROW LEVEL SECURITY;
DROP POLICY nothing ON $table;
EOQ
}

# ... that come and go while somebody reads: in a crash of theirs all would end
{
	my $table = 'sqsbridge_internal.queues';
	my @names = map { "lore_${_}_" . 'x' x 50 } 1 .. 5;
	append_to_file("$tmp/come_and_go.sql", join(";\n",
			(map { "CREATE TRIGGER $_ BEFORE TRUNCATE ON $table EXECUTE FUNCTION low.trigger()" } @names),
			"ANALYZE $table", (map { "DROP TRIGGER $_ ON $table" } @names), ''));
	append_to_file("$tmp/read.sql", "SELECT count(*) FROM sqs_queues;\nSELECT sqs_get_remark();\n");
	my @to = ('-h', $node->host, '-p', $node->port, 'postgres');
	my $writer = IPC::Run::start([ 'pgbench', '-n', '-c', '1', '-t', '1000000', '-f', "$tmp/come_and_go.sql", @to ],
		'<', \undef, '>', "$tmp/writer.out", '2>', "$tmp/writer.err");
	$node->command_ok([ 'pgbench', '-n', '-c', '4', '-T', '5', '-f', "$tmp/read.sql", @to ], 'triggers come and go while views are read');
	ok($writer->pumpable, 'triggers come and go to the end') or diag(slurp_file("$tmp/writer.err"));
	$writer->kill_kill(grace => 10);
	poll_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%lore_%' AND pid <> pg_backend_pid()}) == 0 },
		'nobody changes triggers any more');
	$node->safe_psql('postgres', join(';', map { "DROP TRIGGER IF EXISTS $_ ON $table" } @names));
	workers_are_the_same('triggers come and go');
}

# ---- who has read a view keeps nobody from maintenance

{
	my $reader = $node->background_psql('postgres', on_error_stop => 1);
	foreach my $table (@tables)
	{
		# so that it is looked at anew
		$node->safe_psql('postgres', "ANALYZE $table");
	}
	$reader->query_safe('BEGIN; SELECT count(*) FROM sqs_queues, sqs_stats, sqs_stats_outbox; SELECT count(*) FROM sqs_failures;
		SELECT count(*) FROM sqs_outbox; SELECT count(*) FROM sqs_outbox_failures; SELECT sqs_get_remark()');
	my ($rc, undef, $stderr) = $node->psql('postgres', join('', "SET lock_timeout = '30 s';\n", map { "VACUUM FULL $_;\n" } @tables));
	is($stderr, '', 'views are read in a transaction that lasts: tables can be rewritten meanwhile');
	$reader->query_safe('COMMIT');
	$reader->quit;
}

# ---- maintenance, all the time

{
	my $file = "$tmp/maintenance.sql";
	append_to_file($file, join('', map { my $t = $_; map { "$_ $t;\n" } ('VACUUM FULL', 'REINDEX TABLE', 'VACUUM (FREEZE)',
		'REINDEX TABLE CONCURRENTLY', 'ANALYZE') } @tables));
	append_to_file($file, join('', map { "CLUSTER $_ USING " . (/(\w+)$/)[0] . "_pkey;\n" } grep { !/failures$/ } @tables));
	my $maintenance = IPC::Run::start([ 'pgbench', '-n', '-c', '1', '-t', '1000000', '-f', $file, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \undef, '>', "$file.out", '2>', "$file.err");
	foreach my $i (1 .. ($long ? 100 : 10))
	{
		more(50);
		seconds_pass($node, 1, "maintenance, part $i");
	}
	all_is_done('maintenance', timeout => 120);
	ok($maintenance->pumpable, 'maintenance goes on to the end') or diag(slurp_file("$file.err"));
	$maintenance->kill_kill(grace => 10);
	workers_are_the_same('maintenance');
}

# ---- locks of an administrator's

my $locker = $node->background_psql('postgres', on_error_stop => 1, timeout => 3000);

foreach my $table (@tables)
{
	foreach my $mode ('SHARE', 'ACCESS EXCLUSIVE')
	{
		my $name = "$table is locked in $mode mode";
		# what is under way as it happens
		more();
		seconds_pass($node, 1, "$name: something is under way");
		$locker->query_safe("BEGIN; LOCK TABLE $table IN $mode MODE");
		# an insert into a table that is locked would wait, and so might a view
		my $fill = $messages{in};
		$sqs->fill($_, 10, body => "$_ {i}", start => $messages{$_} + 1, groups => 4) foreach keys %messages;
		$messages{$_} += 10 foreach keys %messages;
		my $until = time() + 2;
		usleep(100_000) while time() < $until;
		$locker->query_safe('COMMIT');
		all_is_done($name);
	}
}
workers_are_the_same('locks');

# ... while old rows are to be cleared away, which a new database worker does first
$node->safe_psql('postgres', "UPDATE sqsbridge_internal.failures SET failed_at = failed_at - interval '30 days'");
$locker->query_safe("BEGIN; LOCK TABLE sqsbridge_internal.failures, sqsbridge_internal.inbox IN SHARE MODE");
my $cleaner = $node->safe_psql('postgres', "SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker'");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($cleaner)");
query_true($node, "SELECT count(*) = 1 FROM sqs_stats_workers WHERE kind = 'database worker' AND pid <> $cleaner", 'a new database worker');
foreach my $i (1 .. 4)
{
	my $row = 'row ' . ++$rows{out};
	my $sent = $sqs->stats('out')->{sent};
	$node->safe_psql('postgres', "SELECT sqs_enqueue('out', '$row')");
	poll_until(sub { $sqs->stats('out')->{sent} > $sent }, "$row is sent while others' tables are locked");
	seconds_pass($node, 2, 'for a while');
}
$locker->query_safe('COMMIT');
all_is_done('tables of the receiving side were locked for long');
$same = $node->safe_psql('postgres', $workers);

# ... and rows
$sqs->clear_faults($slow);
$slow = $sqs->fault(kind => 'latency', ms => 3000, action => 'SendMessageBatch', queue => 'out');
more(30);
query_is($node, "SELECT in_flight > 0 FROM sqs_stats_outbox WHERE queue = 'out'", 't', 'rows are under way');
$locker->query_safe('BEGIN; DELETE FROM sqsbridge_internal.outbox_rows');
more(30);
seconds_pass($node, 6, 'rows are deleted, or perhaps not');
poll_until(
	sub {
		my %sent = map { $_->{body} => 1 } @{ $sqs->messages('out') };
		return $sent{"row $rows{out}"};
	},
	'other rows are sent meanwhile');
$locker->query_safe('ROLLBACK');
all_is_done('somebody wanted to delete all rows');
$locker->quit;
workers_are_the_same('locks');

# ---- where going on is not safe

foreach my $case (
	[ 'queues', 'DISABLE TRIGGER USER', 'ENABLE TRIGGER USER' ],
	[ 'outbox_rows', 'ALTER COLUMN token DROP NOT NULL', 'ALTER COLUMN token SET NOT NULL' ],
	[ 'inbox', 'SET ACCESS METHOD heap2', 'SET ACCESS METHOD heap' ])
{
	my ($table, $doing, $undoing) = @$case;
	$node->safe_psql('postgres', "ALTER TABLE sqsbridge_internal.$table $doing");
	my ($rc, undef, $stderr) = $node->psql('postgres', 'SELECT 1');
	is($rc, 0, "$table $doing: the server is there");
	more(5) if $table eq 'inbox';
	# in a view, or in the error of whoever asks
	poll_until(
		sub {
			my (undef, $out, $stderr) = $node->psql('postgres', <<'EOQ');
SELECT last_error FROM sqs_stats WHERE state = 'error' UNION ALL
SELECT last_error FROM sqs_stats_outbox WHERE state IN ('error', 'backing off') UNION ALL
SELECT last_error FROM sqs_stats_workers WHERE error_since IS NOT NULL
EOQ
			return "$out$stderr" =~ /cannot use table "sqsbridge_internal.$table"/;
		},
		"$table $doing: said to be the reason");
	$node->safe_psql('postgres', "ALTER TABLE sqsbridge_internal.$table $undoing");
	all_is_done("$table $undoing", timeout => 120);
}

# a column that was added would stay in the way after it was dropped
foreach my $statement ('inbox ADD COLUMN lore int', 'outbox_rows DROP COLUMN system_attributes', 'queues ALTER COLUMN name TYPE name')
{
	my ($rc, undef, $stderr) = $node->psql('postgres', "ALTER TABLE sqsbridge_internal.$statement");
	like($stderr, qr/cannot change the columns of/, "ALTER TABLE $statement is refused");
}
all_is_done('columns');

$node->stop;
check_log($node, qr/\] 032_internal_tables\.pl (?:ERROR:|FATAL:  connection to client lost)/,
	# once, of the supervision, while the table of queues is locked
	qr/ERROR:  canceling statement due to lock timeout/, qr/canceling autovacuum task$/, qr/\] pgbench /, qr/this one is poison/,
	qr/sqsbridge cannot use table/, qr/constraint "lore"/, qr/unique constraint "lore_unique"/);
unlike(log_text($node), qr/terminated by signal/, 'no process has crashed');
$sqs->stop_sqs;
done_testing();
