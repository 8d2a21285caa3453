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
#   --only LIST        of drain,distance,failures,calls,delay,latency,idle: these only
#   --without-peer     sqsbridge alone; needs no npm

. "$(dirname "${BASH_SOURCE[0]}")/../lib/setup.sh"

MESSAGES=
PEER_MESSAGES=
RUNS=
QUICK=
ONLY=drain,distance,failures,calls,delay,latency,idle
PEER=1
while [ $# -gt 0 ]; do
	case $1 in
		--messages) MESSAGES=${2:?}; shift ;;
		--peer-messages) PEER_MESSAGES=${2:?}; shift ;;
		--runs) RUNS=${2:?}; shift ;;
		--quick) QUICK=1 ;;
		--only) ONLY=${2:?}; shift ;;
		--without-peer) PEER= ;;
		*) sed -n '2,20p' "$0"; exit 2 ;;
	esac
	shift
done
if [ -n "$QUICK" ]; then
	: "${MESSAGES:=10000}" "${RUNS:=1}"
else
	: "${MESSAGES:=100000}" "${RUNS:=3}"
fi
: "${PEER_MESSAGES:=$((MESSAGES / 5))}"

SQSD_PID=
finish() {
	[ -f "$WORK/peer.pid" ] && as_root kill "$(cat "$WORK/peer.pid")" 2>/dev/null
	stop_cluster "$WORK/pg" fast
	[ -n "$SQSD_PID" ] && as_root kill "$SQSD_PID" 2>/dev/null
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
as_user "'$WORK/src/test/sqsd/sqsd' --quiet --no-cooldown --port 0 --port-file '$WORK/port' --queue bridge --queue peer >'$WORK/sqsd.log' 2>&1 & echo \$! >'$WORK/sqsd.pid'"
for _ in $(seq 100); do [ -s "$WORK/port" ] && break; sleep 0.1; done
[ -s "$WORK/port" ] || die "sqsd did not start: $(cat "$WORK/sqsd.log")"
SQSD_PID=$(cat "$WORK/sqsd.pid")

# no checkpoint in the middle of a drain; times of commits are what is measured
init_cluster "$WORK/pg" "track_commit_timestamp = on" "max_wal_size = 8GB" \
	"checkpoint_timeout = 1h" "shared_buffers = 512MB" "max_worker_processes = 100"
start_cluster "$WORK/pg"
"$PGBIN/createdb" -h "$WORK/pg/socket" -U postgres bench

as_user "env WORK='$WORK' PGBIN='$PGBIN' MESSAGES=$MESSAGES PEER_MESSAGES=$PEER_MESSAGES \
	RUNS=$RUNS QUICK=$QUICK ONLY='$ONLY' PEER=$PEER \
	perl '$WORK/src/test/bench/consume.pl' '$WORK/port' '$WORK/pg'"
