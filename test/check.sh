#!/usr/bin/env bash
# check.sh [--long]: all tests.  Ends with one line "N passed, N failed".
#
# As root or with sudo, on Debian.  Builds in a temporary copy with -Werror,
# installs the extension, and runs: unit tests of the AWS layer, the inputs
# kept from fuzzing, sqsd's own tests, pg_regress, the TAP tests against sqsd,
# and those of them that need no faults once more against fauxqs, an emulator
# written by others.

. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

# files that also run against somebody else's SQS
FAUXQS_TESTS="001_basic.pl 002_content.pl 005_fifo.pl 021_outbox.pl"
FAUXQS_VERSION=1.9.2

PASSED=0
FAILED=0
LONG=
for arg in "$@"; do
	case $arg in
		--long) LONG=1 ;;
		*) die "usage: check.sh [--long]" ;;
	esac
done

finish() {
	stop_cluster "$WORK/regress" immediate 2>/dev/null
	[ -n "${KEEP_WORK:-}" ] || as_root rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT TERM

count() {
	PASSED=$((PASSED + $1))
	FAILED=$((FAILED + $2))
	printf '   %s: %d passed, %d failed\n' "$3" "$1" "$2"
}

# TAP in a file: count its lines; a plan that was not met is a failure.
count_tap() {
	local ok notok
	ok=$(grep -cE '^ok ' "$1")
	notok=$(grep -cE '^not ok ' "$1")
	[ "$3" = 0 ] || [ "$notok" -gt 0 ] || notok=1
	[ $((ok + notok)) -gt 0 ] || notok=1
	count "$ok" "$notok" "$2"
	[ "$notok" = 0 ] || { grep -E -A 12 '^not ok |^#   |Dubious|Bailout' "$1" | head -n 60; }
}

install_packages libipc-run-perl libio-socket-ssl-perl openssl
choose_user
build

if [ -f "$TOP/test/unit/Makefile" ]; then
	say "unit tests of the AWS layer"
	as_user "cd '$WORK/src/test/unit' && make -s check PG_CONFIG='$PG_CONFIG' SQSD='$WORK/src/test/sqsd/sqsd'" >"$WORK/unit.tap" 2>&1
	count_tap "$WORK/unit.tap" "unit tests" $?
fi

if [ -f "$TOP/test/fuzz/Makefile" ]; then
	say "inputs that fuzzing found, with sanitizers"
	as_user "cd '$WORK/src/test/fuzz' && make -s replay PG_CONFIG='$PG_CONFIG'" >"$WORK/fuzz.tap" 2>&1
	count_tap "$WORK/fuzz.tap" "fuzz inputs" $?
fi

say "test/sqsd"
as_user "make -C '$WORK/src/test/sqsd' -s check" >"$WORK/sqsd.log" 2>&1
status=$?
line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$WORK/sqsd.log" | tail -n 1)
set -- $(printf '%s' "${line:-0 passed, 1 failed}" | tr -cd '0-9 ')
[ $status = 0 ] || [ "$2" -gt 0 ] || set -- "$1" 1
count "$1" "$2" "sqsd"
[ "$2" = 0 ] || tail -n 30 "$WORK/sqsd.log"

say "pg_regress"
init_cluster "$WORK/regress"
start_cluster "$WORK/regress"
as_user "cd '$WORK/src' && PGHOST='$WORK/regress/socket' PGUSER=postgres make -s installcheck PG_CONFIG='$PG_CONFIG' with_llvm=no" >"$WORK/regress.log" 2>&1
count "$(grep -cE '^(test .*\.\.\. ok|ok [0-9])' "$WORK/regress.log")" \
	"$(grep -cE '^(test .*\.\.\. FAILED|not ok [0-9])' "$WORK/regress.log")" "pg_regress"
grep -qE '^(test .*\.\.\. ok|ok [0-9])' "$WORK/regress.log" || { tail -n 20 "$WORK/regress.log"; count 0 1 "pg_regress did not run"; }
[ ! -s "$WORK/src/regression.diffs" ] || head -n 100 "$WORK/src/regression.diffs"
stop_cluster "$WORK/regress"

PGXS_DIR=$(dirname "$($PG_CONFIG --pgxs)")/../..
# tap KIND FILE...
tap() {
	local kind=$1 file
	shift
	for file in "$@"; do
		[ -f "$TOP/test/t/$file" ] || continue
		as_user "mkdir -p '$WORK/tap-$kind-$file' && cd '$WORK/src' && env PATH='$PGBIN':\$PATH \
			PG_REGRESS='$PGXS_DIR/src/test/regress/pg_regress' \
			PERL5LIB='$PGXS_DIR/src/test/perl:$WORK/src/test/t' \
			TESTDIR='$WORK/tap-$kind-$file' SQSD='$WORK/src/test/sqsd/sqsd' \
			SQSBRIDGE_ENDPOINT_KIND=$kind FAUXQS_DIR='${FAUXQS_DIR:-}' SQSBRIDGE_LONG='$LONG' \
			timeout ${LONG:+36}00 perl test/t/$file" >"$WORK/$kind-$file.tap" 2>&1 </dev/null
		count_tap "$WORK/$kind-$file.tap" "$file ($kind)" $?
	done
}

say "TAP tests against sqsd"
tap sqsd $(cd "$TOP/test/t" && ls ./*.pl | sed 's,^\./,,' | sort)

say "TAP tests against fauxqs"
if ! command -v npm >/dev/null; then
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm >"$WORK/npm-apt.log" 2>&1
fi
FAUXQS_DIR=${FAUXQS_DIR:-${TMPDIR:-/tmp}/sqsbridge-fauxqs-$FAUXQS_VERSION}
if [ ! -d "$FAUXQS_DIR/node_modules/fauxqs" ]; then
	mkdir -p "$FAUXQS_DIR"
	(cd "$FAUXQS_DIR" && npm install --no-audit --no-fund --silent "fauxqs@$FAUXQS_VERSION") >"$WORK/npm.log" 2>&1 </dev/null ||
		tail -n 20 "$WORK/npm.log"
	chmod -R a+rX "$FAUXQS_DIR"
fi
if [ -d "$FAUXQS_DIR/node_modules/fauxqs" ]; then
	tap fauxqs $FAUXQS_TESTS
else
	count 0 1 "fauxqs could not be installed"
fi

printf '\n%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" = 0 ] && [ "$PASSED" -gt 0 ]
