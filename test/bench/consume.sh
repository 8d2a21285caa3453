#!/usr/bin/env bash
# consume.sh: how fast and at what cost sqsbridge receives, beside its peer.
#
#   consume.sh [--messages N] [--peer-messages N] [--runs N] [--quick]
#              [--only LIST] [--without-peer]
#
# As root or with sudo, on Debian.  Starts a PostgreSQL with the extension
# and test/sqsd, a local SQS server, on this machine; drains a full queue with
# a handler that inserts one row; does the same with the npm packages
# sqs-consumer and pg; and prints a table.  Takes about ten minutes, --quick
# about one.  test/bench/README.md says what is measured and how.
#
#   --messages N       per drain by sqsbridge, default 100000
#   --peer-messages N  per drain by the peer, default a fifth of that
#   --runs N           drains of each kind, default 3: medians are printed
#   --quick            one run of 10000 messages, short waits: to try it out
#   --only LIST        of drain,batches,distance,tls,bodies,failures,calls,delay,latency,
#                      idle,many: these only; many is not among them otherwise
#   --queues N         for many, default 1000, which takes about 4 GB
#   --without-peer     sqsbridge alone; needs no npm

. "$(dirname "${BASH_SOURCE[0]}")/../lib/setup.sh"

MESSAGES=
PEER_MESSAGES=
RUNS=
QUICK=
ONLY=drain,batches,distance,tls,bodies,failures,calls,delay,latency,idle
QUEUES=1000
PEER=1
while [ $# -gt 0 ]; do
	case $1 in
		--messages) MESSAGES=${2:?}; shift ;;
		--peer-messages) PEER_MESSAGES=${2:?}; shift ;;
		--runs) RUNS=${2:?}; shift ;;
		--quick) QUICK=1 ;;
		--only) ONLY=${2:?}; shift ;;
		--queues) QUEUES=${2:?}; shift ;;
		--without-peer) PEER= ;;
		*) sed -n '2,22p' "$0"; exit 2 ;;
	esac
	shift
done
if [ -n "$QUICK" ]; then
	: "${MESSAGES:=10000}" "${RUNS:=1}"
else
	: "${MESSAGES:=100000}" "${RUNS:=3}"
fi
: "${PEER_MESSAGES:=$((MESSAGES / 5))}"

SQSD_PIDS=
finish() {
	[ -f "$WORK/peer.pid" ] && as_root kill "$(cat "$WORK/peer.pid")" 2>/dev/null
	stop_cluster "$WORK/pg" fast
	[ -n "$SQSD_PIDS" ] && as_root kill $SQSD_PIDS 2>/dev/null
	[ -n "${KEEP_WORK:-}" ] || as_root rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT TERM

install_packages
choose_user
build

if [ -n "$PEER" ]; then
	install_peer
fi

say "starting sqsd and a throwaway PostgreSQL"
# start_sqsd NAME OPTION...
start_sqsd() {
	local name=$1
	shift
	as_user "'$WORK/src/test/sqsd/sqsd' --quiet --no-cooldown --port 0 --port-file '$WORK/$name' $* >'$WORK/$name.log' 2>&1 & echo \$! >'$WORK/$name.pid'"
	for _ in $(seq 100); do [ -s "$WORK/$name" ] && break; sleep 0.1; done
	[ -s "$WORK/$name" ] || die "sqsd did not start: $(cat "$WORK/$name.log")"
	SQSD_PIDS="$SQSD_PIDS $(cat "$WORK/$name.pid")"
}
as_user "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
	-addext subjectAltName=IP:127.0.0.1 -out '$WORK/cert.pem' -keyout '$WORK/key.pem'" 2>"$WORK/openssl.log" ||
	die "no certificate: $(cat "$WORK/openssl.log")"
start_sqsd port --queue bridge --queue peer
start_sqsd port.tls --queue bridge --tls-cert "$WORK/cert.pem" --tls-key "$WORK/key.pem"

# a queue worker for each of many queues, and a handler for each that is busy
case ,$ONLY, in *,many,*) WORKERS=$((100 + QUEUES + QUEUES / 4)) ;; *) WORKERS=100 ;; esac

# no checkpoint in the middle of a drain; times of commits are what is measured
init_cluster "$WORK/pg" "track_commit_timestamp = on" "max_wal_size = 8GB" \
	"checkpoint_timeout = 1h" "shared_buffers = 512MB" "max_worker_processes = $WORKERS" \
	"sqsbridge.max_workers = $WORKERS" "sqsbridge.max_queues = $((2 * QUEUES + 10))" \
	"sqsbridge.ca_file = '$WORK/cert.pem'"
start_cluster "$WORK/pg"
"$PGBIN/createdb" -h "$WORK/pg/socket" -U postgres bench

as_user "env WORK='$WORK' PGBIN='$PGBIN' MESSAGES=$MESSAGES PEER_MESSAGES=$PEER_MESSAGES \
	RUNS=$RUNS QUEUES=$QUEUES QUICK=$QUICK ONLY='$ONLY' PEER=$PEER \
	perl '$WORK/src/test/bench/consume.pl' '$WORK/port' '$WORK/pg'"
