# No role can make those wait who use the extension's relations: statements
# that wait for a strong lock before they look at privileges are refused first.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(queues => ['q']);
my $node = new_node('main');

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue('q', server => 'aws');
GRANT USAGE ON FOREIGN SERVER aws TO PUBLIC;
CREATE ROLE writer LOGIN;
CREATE ROLE stranger LOGIN;
CREATE ROLE clerk LOGIN IN ROLE pg_write_all_data;
CREATE SCHEMA AUTHORIZATION stranger;
CREATE SCHEMA AUTHORIZATION clerk;
EOQ

# A transaction that has written, and lasts.
my $writer = $node->background_psql('postgres', on_error_stop => 1, extra_params => [ '-U', 'writer' ]);
$writer->query_safe(q{BEGIN; INSERT INTO sqs_outbox (queue, body) VALUES ('q', 'first')});

# Each would wait until its lock_timeout, and all later writers with it.
my $arguments = 'FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()';
my @statements = (
	[ 'a trigger', "CREATE TRIGGER t INSTEAD OF INSERT ON %s $arguments" ],
	[ 'a rule', 'CREATE RULE r AS ON UPDATE TO %s DO INSTEAD NOTHING' ],
	[ 'a foreign key of a column', 'CREATE TABLE t (id bigint REFERENCES %s (id))' ],
	[ 'a foreign key of a table', 'CREATE TABLE t (id bigint, FOREIGN KEY (id) REFERENCES %s (id))' ],
	[ 'a foreign key by ALTER TABLE', 'ALTER TABLE mine ADD FOREIGN KEY (id) REFERENCES %s (id)' ],
	[ 'a foreign key of a new column', 'ALTER TABLE mine ADD x integer, ADD y bigint REFERENCES %s (id)' ],
	[ 'a partition of it', 'CREATE TABLE t PARTITION OF %s DEFAULT' ],
	[ 'it as a partition', 'ALTER TABLE parted ATTACH PARTITION %s DEFAULT' ],
	[ 'it as a partition to be detached', 'ALTER TABLE parted DETACH PARTITION %s' ],
	[ 'LOCK TABLE', 'LOCK TABLE %s' ],
	[ 'LOCK TABLE in a DO block', 'DO $$ BEGIN LOCK TABLE %s IN SHARE MODE; END $$' ],
	[ 'LOCK TABLE of a view on it', 'CREATE VIEW v AS SELECT * FROM %s; LOCK TABLE v' ]);

foreach my $role (qw(stranger clerk))
{
	$node->safe_psql('postgres', "SET ROLE $role; CREATE TABLE $role.mine (id bigint); CREATE TABLE $role.parted (id bigint) PARTITION BY LIST (id)");
	foreach my $relation ($role eq 'clerk' ? qw(sqs_outbox sqsbridge_internal.outbox_rows) : qw(sqs_outbox))
	{
		foreach (@statements)
		{
			my ($name, $statement) = @$_;
			my $table = $relation =~ s/.*\.//r;
			my (undef, undef, $stderr) = $node->psql('postgres',
				"SET search_path = $role, public; SET lock_timeout = '3s'; BEGIN; " . sprintf($statement, $relation),
				extra_params => [ '-U', $role ]);
			like($stderr, qr/ERROR:  permission denied for (?:view|table) $table/, "$role, $relation: $name is refused");
		}
	}
}

# what does not wait is not refused
my ($rc, undef, $stderr) = $node->psql('postgres', 'BEGIN; LOCK TABLE sqs_outbox IN ROW EXCLUSIVE MODE; LOCK TABLE sqs_stats IN ACCESS SHARE MODE; COMMIT',
	extra_params => [ '-U', 'stranger' ]);
is("$rc $stderr", '0 ', 'the locks that reading and writing take anyway');
($rc, undef, $stderr) = $node->psql('postgres', q{SET search_path = stranger; CREATE TABLE a (id bigint PRIMARY KEY); CREATE TABLE b (id bigint REFERENCES a); LOCK TABLE a, b},
	extra_params => [ '-U', 'stranger' ]);
like($stderr, qr/LOCK TABLE can only be used in transaction blocks/, 'tables of its own: as ever');

# other writers go on
$node->safe_psql('postgres', q{SET lock_timeout = '3s'; INSERT INTO sqs_outbox (queue, body) VALUES ('q', 'second')});
$writer->query_safe('COMMIT');
$writer->quit;
query_is($node, q{SELECT waiting FROM sqs_stats_outbox}, '0', 'all is sent');
is(join(' ', sort map { $_->{body} } @{ $sqs->messages('q') }), 'first second', 'what was written');

$node->stop;
check_log($node, qr/ERROR:  permission denied for/, qr/LOCK TABLE can only/);
done_testing();
