use strict; use warnings; use PostgreSQL::Test::Cluster; use PostgreSQL::Test::Utils; use Test::More; use SqsTest;
my $sqs = start_sqs(queues=>['q']); my $node=new_node('main'); setup_database($node,$sqs);
$node->safe_psql('postgres', q{CREATE TABLE got(b text); CREATE FUNCTION h(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.body)'; SELECT sqs_register_queue('q', server=>'aws', handler=>'h', wait_time=>'20 s')});
$sqs->send_messages('q', map {"m$_"} 1..200);
for (1..45) { sleep 1; my $s=$sqs->stats('q'); note "t=$_ open=$s->{open_polls} calls=$s->{calls}{ReceiveMessage} empty=$s->{empty_receives} conns=".$sqs->stats->{connections}{open}; note `ss -tn 2>/dev/null | grep $sqs->{port} | grep -v TIME` if $_==25||$_==35}
ok(1); note $node->safe_psql('postgres','select state,last_error,poll_failures,receive_calls from sqs_stats');  $node->stop; done_testing();
