#!/usr/bin/env bash
# send.sh: how fast and at what cost sqsbridge sends.
#
#   send.sh [--rows N] [--runs N] [--minutes N] [--quick] [--only LIST]
#           [--without-peer]
#
# As root or with sudo, on Debian.  Starts a PostgreSQL with the extension
# and test/sqsd, a local SQS server, on this machine; drains a full outbox, and
# so on; prints tables.  Takes about twenty minutes, --quick about three.
# test/bench/README.md says what is measured and how.
#
#   --rows N      per drain of the outbox, default 200000
#   --runs N      of each kind, default 3: medians are printed
#   --minutes N   with a held snapshot, default 5
#   --quick       one run of 20000 rows, short waits: to try it out
#   --only LIST   of drain,latency,insert,send,held: these measurements only
#   --without-peer  sqsbridge alone; needs no npm

. "$(dirname "${BASH_SOURCE[0]}")/../lib/setup.sh"

ROWS=
RUNS=
MINUTES=5
QUICK=
PEER=1
ONLY=drain,latency,insert,send,held
while [ $# -gt 0 ]; do
	case $1 in
		--rows) ROWS=${2:?}; shift ;;
		--runs) RUNS=${2:?}; shift ;;
		--minutes) MINUTES=${2:?}; shift ;;
		--quick) QUICK=1 ;;
		--only) ONLY=${2:?}; shift ;;
		--without-peer) PEER= ;;
		*) sed -n '2,18p' "$0"; exit 2 ;;
	esac
	shift
done
if [ -n "$QUICK" ]; then
	: "${ROWS:=20000}" "${RUNS:=1}"
else
	: "${ROWS:=200000}" "${RUNS:=3}"
fi

SQSD_PIDS=
finish() {
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

# start_sqsd NAME [OPTION...]: its port is in $WORK/NAME.port.
start_sqsd() {
	local name=$1
	shift
	as_user "'$WORK/src/test/sqsd/sqsd' --quiet --no-cooldown --port 0 --port-file '$WORK/$name.port' --queue out --queue out.fifo $* >'$WORK/$name.log' 2>&1 & echo \$! >'$WORK/$name.pid'"
	for _ in $(seq 100); do [ -s "$WORK/$name.port" ] && break; sleep 0.1; done
	[ -s "$WORK/$name.port" ] || die "sqsd did not start: $(cat "$WORK/$name.log")"
	SQSD_PIDS="$SQSD_PIDS $(cat "$WORK/$name.pid")"
}

say "starting sqsd, with and without TLS, and a throwaway PostgreSQL"
as_user "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
	-addext subjectAltName=IP:127.0.0.1 -keyout '$WORK/key.pem' -out '$WORK/cert.pem'" 2>"$WORK/openssl.log" ||
	{ tail -n 20 "$WORK/openssl.log"; die "making a certificate failed"; }
start_sqsd http
start_sqsd https --tls-cert "'$WORK/cert.pem'" --tls-key "'$WORK/key.pem'"

# no checkpoint in the middle of a measurement
init_cluster "$WORK/pg" "max_wal_size = 8GB" "checkpoint_timeout = 1h" "shared_buffers = 512MB" \
	"sqsbridge.ca_file = '$WORK/cert.pem'"
start_cluster "$WORK/pg"
"$PGBIN/createdb" -h "$WORK/pg/socket" -U postgres bench
as_root mkdir -p "$WORK/tmp"
as_root chown "$RUN_USER" "$WORK/tmp"

as_user "env WORK='$WORK/tmp' PGBIN='$PGBIN' ROWS=$ROWS RUNS=$RUNS QUICK=$QUICK MINUTES=$MINUTES ONLY='$ONLY' PEER=$PEER \
	perl '$WORK/src/test/bench/send.pl' '$WORK/http.port' '$WORK/pg' '$WORK/https.port'"
