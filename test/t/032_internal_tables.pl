# What administrators do to tables, done to those of the extension: indexes of
# all kinds, constraints, triggers, policies.  All of it works, or is refused in
# plain words; no message is lost for it or taken for another, no row is sent
# twice, and no worker ends.  (Maintenance and locks: 041.)
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsFlow;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(
	queues => [ SqsFlow::queues(), 'unique,VisibilityTimeout=2' ]);
my $node = new_node('main');
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

my $flow = SqsFlow->new($sqs, $node);
my @tables = $flow->tables;
$node->safe_psql('postgres', q{SELECT sqs_register_queue('unique', server => 'aws', handler => 'handle', wait_time => '1 s')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'unique'}, 'polling', 'a queue of its own');
$flow->{workers} = $flow->workers;

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
$flow->more(40);
$flow->all_is_done('indexes');
$node->safe_psql('postgres', "SELECT sqs_outbox_retry(id) FROM (SELECT id FROM sqs_outbox_failures LIMIT 1) x");
$node->safe_psql('postgres', "SELECT sqs_alter_queue('in', batch_size => 9); SELECT sqs_register_queue('another', server => 'aws');
	SELECT sqs_unregister_queue('another')");
$flow->all_is_done('indexes');
$flow->workers_are_the_same('indexes');
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
	$flow->more(5);
	$flow->all_is_done("a partial index on $table");
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
		$flow->more(5);
	}
	seconds_pass($node, 5, "an index with somebody's function on $table");
	is($node->safe_psql('postgres', "SELECT DISTINCT what || ' as ' || who FROM low.ran"), '',
		'which is not run by anybody else');
	$node->safe_psql('postgres', 'DROP INDEX ' . ($table =~ s/\..*//r) . '.lore_function') if $rc == 0;
	$flow->all_is_done("no such index on $table");
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
$flow->workers_are_the_same('a unique index');

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
	$flow->more;
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
	$sqs->clear_faults($flow->{slow});
	$flow->all_is_done('failures that can be written again');
	$flow->{slow} = $sqs->fault(kind => 'latency', ms => 300, action => 'SendMessageBatch');
	$flow->workers_are_the_same('CHECK constraints');
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
$flow->more;
$node->safe_psql('postgres', "SELECT sqs_alter_queue('in', batch_size => 10); SELECT sqs_register_queue('another', server => 'aws');
	SELECT sqs_unregister_queue('another')");
$flow->all_is_done('triggers and policies');
$flow->workers_are_the_same('triggers and policies');
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
	$flow->workers_are_the_same('triggers come and go');
}

# ---- who has read a view keeps nobody from maintenance

{
	my $reader = $node->background_psql('postgres', on_error_stop => 1);
	foreach my $table (@tables)
	{
		# so that it is looked at anew
		$node->safe_psql('postgres', "ANALYZE $table");
	}
	$node->safe_psql('postgres', "SELECT sqs_register_queue('routed', server => 'aws', route_by => '\$.type')");
	$reader->query_safe('BEGIN; SELECT count(*) FROM sqs_queues, sqs_stats, sqs_stats_outbox; SELECT count(*) FROM sqs_failures;
		SELECT count(*) FROM sqs_routes;
		SELECT count(*) FROM sqs_outbox; SELECT count(*) FROM sqs_outbox_failures; SELECT sqs_get_remark()');
	my ($rc, undef, $stderr) = $node->psql('postgres', join('', "SET lock_timeout = '30 s';\n", map { "VACUUM FULL $_;\n" } @tables));
	is($stderr, '', 'views are read in a transaction that lasts: tables can be rewritten meanwhile');
	$reader->query_safe('COMMIT');
	$reader->quit;
}

$node->stop;
check_log($node, qr/\] 032_internal_tables\.pl (?:ERROR:|FATAL:  connection to client lost)/,
	qr/canceling autovacuum task$/, qr/\] pgbench /, qr/this one is poison/,
	qr/sqsbridge cannot use table/, qr/constraint "lore"/, qr/unique constraint "lore_unique"/);
unlike(log_text($node), qr/terminated by signal/, 'no process has crashed');
$sqs->stop_sqs;
done_testing();
