#!/usr/bin/env bash
# demo.sh: 10,000 messages from the outbox through SQS to a handler; one fails,
# the server is killed, and the proof.
#
#   demo.sh [--keep]
#   demo.sh [--keep] --endpoint URL --region R --queue NAME
#
# Without --endpoint it starts test/sqsd, a local SQS server for tests.  With
# it, a real one is used: an existing, empty standard queue, and the keys that
# AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) hold.

. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

MESSAGES=10000
KEEP=
ENDPOINT=
REGION=us-east-1
QUEUE=orders
while [ $# -gt 0 ]; do
	case $1 in
		--keep) KEEP=1 ;;
		--endpoint) ENDPOINT=${2:?}; shift ;;
		--region) REGION=${2:?}; shift ;;
		--queue) QUEUE=${2:?}; shift ;;
		*) sed -n '2,11p' "$0"; exit 2 ;;
	esac
	shift
done

SQSD_PID=
finish() {
	[ -n "$KEEP" ] && [ -n "${PROVED:-}" ] && return
	stop_cluster "$WORK/pg" fast
	[ -n "$SQSD_PID" ] && as_user "kill $SQSD_PID" 2>/dev/null
	as_root rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT TERM

sql() { "$PGBIN/psql" -h "$WORK/pg/socket" -U postgres -X -q -v ON_ERROR_STOP=1 "$@" demo; }
value() { sql -At -c "$1"; }

install_packages
choose_user
build

if [ -z "$ENDPOINT" ]; then
	say "starting sqsd, a local SQS server for tests (signatures verified)"
	export AWS_ACCESS_KEY_ID=DEMOKEY AWS_SECRET_ACCESS_KEY=demosecret
	unset AWS_SESSION_TOKEN
	as_user "'$WORK/src/test/sqsd/sqsd' --port 0 --port-file '$WORK/port' --access-key DEMOKEY --secret-key demosecret --queue '$QUEUE' >'$WORK/sqsd.log' 2>&1 & echo \$! >'$WORK/sqsd.pid'"
	for _ in $(seq 100); do [ -s "$WORK/port" ] && break; sleep 0.1; done
	[ -s "$WORK/port" ] || die "sqsd did not start: $(cat "$WORK/sqsd.log")"
	SQSD_PID=$(cat "$WORK/sqsd.pid")
	ADMIN=http://127.0.0.1:$(tr -cd 0-9 <"$WORK/port")
	ENDPOINT=$ADMIN
else
	: "${AWS_ACCESS_KEY_ID:?}" "${AWS_SECRET_ACCESS_KEY:?}"
	ADMIN=
fi

say "starting a throwaway PostgreSQL in $WORK/pg"
init_cluster "$WORK/pg" "log_min_error_statement = panic"
start_cluster "$WORK/pg"
"$PGBIN/createdb" -h "$WORK/pg/socket" -U postgres demo

say "a queue with a handler, and the way into it"
# the keys go in by standard input: they appear in no argument list and no log
sql -v region="$REGION" -v endpoint="$ENDPOINT" -v queue="$QUEUE" \
	-v key="$AWS_ACCESS_KEY_ID" >/dev/null <<SQL
\\set secret \`printenv AWS_SECRET_ACCESS_KEY\`
\\set token \`printenv AWS_SESSION_TOKEN\`
CREATE EXTENSION sqsbridge;
CREATE ROLE app LOGIN;
GRANT CREATE ON SCHEMA public TO app;
CREATE SERVER aws FOREIGN DATA WRAPPER sqsbridge OPTIONS (region :'region', endpoint :'endpoint');
GRANT USAGE ON FOREIGN SERVER aws TO app;
SELECT :'token' <> '' AS has_token \\gset
CREATE USER MAPPING FOR app SERVER aws OPTIONS (access_key_id :'key', secret_access_key :'secret');
\\if :has_token
ALTER USER MAPPING FOR app SERVER aws OPTIONS (ADD session_token :'token');
\\endif
SET ROLE app;
CREATE TABLE orders (id bigint, item text, message_id text);
CREATE SEQUENCE attempts;
CREATE FUNCTION handle_order(msg sqs_message) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    INSERT INTO orders
    SELECT (msg.body::jsonb->>'id')::bigint, msg.body::jsonb->>'item', msg.message_id;
    -- number 42 fails the first time, after it has done its work
    IF msg.body::jsonb->>'id' = '42' AND nextval('attempts') = 1 THEN
        RAISE EXCEPTION 'the kettle is empty' USING HINT = 'Try again.';
    END IF;
END \$\$;
SELECT sqs_register_queue(:'queue', server => 'aws', handler => 'handle_order', concurrency => 2,
                          visibility_timeout => '5 s', retry_delay => '1 s');
SELECT sqs_register_queue('outgoing', server => 'aws', queue_name => :'queue');
SQL
sql -c '\sf handle_order'

say "a transaction that is rolled back sends nothing; one that commits sends $MESSAGES messages"
sql -a <<SQL
SET ROLE app;
BEGIN;
INSERT INTO sqs_outbox (queue, body) SELECT 'outgoing', '{"id": 0, "item": "ghost"}' FROM generate_series(1, 1000);
ROLLBACK;
BEGIN;
CREATE TABLE ordered AS SELECT id, 'tea' AS item FROM generate_series(1, $MESSAGES) id;
INSERT INTO sqs_outbox (queue, body) SELECT 'outgoing', json_build_object('id', id, 'item', item) FROM ordered;
COMMIT;
SQL

# The state of a process (R, S, ...; Z is a zombie) and its parent.
processes() { cat /proc/[0-9]*/stat 2>/dev/null | sed -nE 's/^([0-9]+) \(.*\) ([A-Z]) ([0-9]+) .*/\1 \2 \3/p'; }

# Kill the server and all its processes, and wait until they are dead.
kill_server() {
	local postmaster all left
	postmaster=$(head -n 1 "$WORK/pg/data/postmaster.pid")
	all="$postmaster $(processes | awk -v p="$postmaster" '$3 == p { print $1 }' | tr '\n' ' ')"
	# without their postmaster, some have ended before their turn comes
	as_user "kill -9 $all" 2>/dev/null
	for _ in $(seq 300); do
		left=$(processes | awk -v all=" $all " '$2 != "Z" && index(all, " " $1 " ")')
		[ -n "$left" ] || break
		sleep 0.1
	done
	[ -z "$left" ] || die "killed processes are still there after 30 s: $left"
	# where nobody reaps it, PostgreSQL would take it for a running server
	if [ -e "/proc/$postmaster" ]; then
		as_user "rm -f '$WORK/pg/data/postmaster.pid' '$WORK'/pg/socket/.s.PGSQL.*.lock"
	fi
}

say "outbox -> SQS -> handler; at one third the whole server is killed with SIGKILL"
killed=
start=$(date +%s)
moved=$start
last=-1
while :; do
	n=$(value "SELECT count(*) FROM orders" 2>/dev/null) || n=$last
	if [ "$n" != "$last" ]; then
		printf '   %5d of %d after %d s\n' "$n" "$MESSAGES" $(($(date +%s) - start))
		last=$n
		moved=$(date +%s)
	fi
	if [ -z "$killed" ] && [ "$n" -ge $((MESSAGES / 3)) ]; then
		kill_server
		killed=1
		printf '   *** SIGKILL to the server and all its processes\n'
		start_cluster "$WORK/pg"
		printf '   *** started again; what was in flight comes back after 5 s\n'
	fi
	acked=$(value "SELECT count(*) FROM sqs_stats_in_flight" 2>/dev/null || echo 1)
	[ -n "$killed" ] && [ "$n" -ge "$MESSAGES" ] && [ "$acked" = 0 ] && break
	[ $(($(date +%s) - moved)) -gt 120 ] && break
	sleep 0.05
done
# messages that were handled but not deleted come back and are recognized
if [ -n "$ADMIN" ]; then
	for _ in $(seq 600); do
		# what the relay had under way was sent twice, and is recognized too
		book() { curl -sS "$ADMIN/_sqsd/stats" | grep -o "\"$1\":[0-9]*" | head -n 1 | tr -cd 0-9; }
		deleted=$(book deleted)
		[ "$deleted" -ge "$MESSAGES" ] && [ "$(book sent)" = "$deleted" ] && break
		sleep 0.1
	done
fi

say "sqs_stats (counted since the restart)"
sql -x -c "SELECT queue, state, received, acked, failed, duplicates, released, receive_calls, delete_calls, handler_time_total, last_error FROM sqs_stats WHERE queue = '$QUEUE'"
say "sqs_stats_outbox (counted since the restart, too)"
sql -x -c "SELECT queue, state, waiting, in_flight, sent, failed, last_success_at, last_error FROM sqs_stats_outbox WHERE queue = 'outgoing'"
say "sqs_stats_workers"
sql -c "SELECT kind, pid, database, queue, role, state, messages FROM sqs_stats_workers"
say "sqs_failures"
sql -x -c "SELECT failed_at, queue, message_id, receive_count, sqlstate, message, hint, context FROM sqs_failures"

say "the proof"
sql -c "SELECT count(*) AS effects, count(DISTINCT id) AS messages, count(*) - count(DISTINCT id) AS twice FROM orders"
result=$(value "SELECT count(*) = $MESSAGES AND count(DISTINCT id) = $MESSAGES AND NOT EXISTS (SELECT FROM sqs_outbox) FROM orders")
failures=$(value "SELECT count(*) FROM sqs_failures")
if [ -n "$ADMIN" ]; then
	echo "in sqsd's books: $(curl -sS "$ADMIN/_sqsd/stats" | grep -oE '"(sent|received|redelivered|deleted|visible|in_flight)":[0-9]+' | tr -d '"' | tr '\n' ' ')"
	[ "$deleted" -ge "$MESSAGES" ] && [ "$(book sent)" = "$deleted" ] || result=f
fi
if [ "$result" = t ] && [ -n "$killed" ] && [ "$failures" -ge 1 ]; then
	printf '\n%d rows of the outbox, %d effects, each exactly once.\n' "$MESSAGES" "$MESSAGES"
else
	printf '\nFAILED: see above, and the server log:\n'
	tail -n 30 "$WORK/pg/log"
	exit 1
fi

if [ -n "$KEEP" ]; then
	PROVED=1
	printf '\nIt goes on running:\n  %s/psql -h %s -U postgres demo\n' "$PGBIN" "$WORK/pg/socket"
	stop="$PGBIN/pg_ctl -D $WORK/pg/data -m fast stop"
	[ "$(id -un)" = "$RUN_USER" ] || stop="su $RUN_USER -s /bin/sh -c \"$stop\""
	printf 'To end it:\n  %s; %srm -rf %s\n' "$stop" "${SQSD_PID:+kill $SQSD_PID; }" "$WORK"
fi
