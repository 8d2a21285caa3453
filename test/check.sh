#!/usr/bin/env bash
# check.sh [--long] [-j N] [WORD...]: all tests, or some.  Ends with one line
# "N passed, N failed".
#
# As root or with sudo, on Debian.  Builds in a temporary copy with -Werror,
# installs the extension, and runs: a look at the layout, every other compiler
# there is, unit tests of the AWS layer, the inputs kept from fuzzing, sqsd's
# own tests, pg_regress, the TAP tests against sqsd, and those of them that need
# no faults once more against fauxqs, an emulator written by others.  "sdk"
# compares the choice of keys and endpoints with that of AWS's SDK for JavaScript.
#
# Words choose parts: layout, compile, unit, fuzz, sqsd, sdk, regress, tap, fauxqs,
# or what is in the name of a TAP file ("check.sh 013 fifo").  "layout" alone builds
# and installs nothing.  The parts run side by side, as they mostly wait: N at a
# time (or $CHECK_JOBS; the default is six for each processor).  They share
# nothing that one of them writes; each has a directory of its own, and servers
# of its own that listen on a socket in a directory of their own, or on a port
# that the system chose.  Nothing is left when all is well, nor after ^C; of a
# part that failed, the output and the servers' logs are kept.  KEEP_WORK=1 keeps
# everything.

. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
WORK=$(cd "$WORK" && pwd -P)

# files that also run against somebody else's SQS
FAUXQS_TESTS="001_basic.pl 002_content.pl 005_fifo.pl 020_outbox.pl"
FAUXQS_VERSION=1.9.2

# What takes longest begins first, and what works beside what waits.
LONGEST="031_restore.pl 041_table_locks.pl 030_privileges.pl 042_relay_bounds.pl 039_credentials.pl compile
	035_shared_entries.pl 015_stop_any_time.pl 025_handler_exits.pl 043_shared_credentials.pl fuzz unit sdk
	056_holds.pl 012_faults.pl 018_limits.pl 021_outbox_faults.pl 034_exactly_once.pl 022_outbox_kill.pl 038_pace.pl
	033_relay.pl 032_internal_tables.pl 019_send.pl 027_discovery.pl 017_handlers.pl 024_outbox_database.pl"

usage="usage: check.sh [--long] [-j N] [layout|compile|unit|fuzz|sqsd|sdk|regress|tap|fauxqs|part of a TAP file's name]..."
PASSED=0
FAILED=0
LONG=
JOBS=${CHECK_JOBS:-$((6 * $(nproc)))}
WORDS=()
KEPT=
while [ $# -gt 0 ]; do
	case $1 in
		--long) LONG=1 ;;
		-j) shift; JOBS=${1:-} ;;
		-j*) JOBS=${1#-j} ;;
		-*) die "$usage" ;;
		*) WORDS+=("$(basename "$1")") ;;
	esac
	shift
done
[[ $JOBS =~ ^[1-9][0-9]*$ ]] || die "$usage"

# ---- which parts ----

# chosen NAME...: whether a word is one of the names; so they are without words
chosen() {
	local word name
	[ ${#WORDS[@]} -gt 0 ] || return 0
	for word in "${WORDS[@]}"; do
		for name in "$@"; do [ "$word" != "$name" ] || return 0; done
	done
	return 1
}

# chosen_file FILE: whether a word chooses this TAP file
chosen_file() {
	local word
	! chosen tap || return 0
	for word in "${WORDS[@]}"; do
		case $word in
			layout | compile | unit | fuzz | sqsd | sdk | regress | fauxqs) ;;
			*) [[ $1 != *"$word"* ]] || return 0 ;;
		esac
	done
	return 1
}

TAP_FILES=$(cd "$TOP/test/t" && for file in *.pl; do echo "$file"; done)
for word in "${WORDS[@]}"; do
	case $word in
		layout | compile | unit | fuzz | sqsd | sdk | regress | tap | fauxqs) ;;
		*) [[ $TAP_FILES == *"$word"* ]] || die "no test is called \"$word\"; $usage" ;;
	esac
done

PARTS=()
for part in layout $LONGEST sqsd regress $TAP_FILES; do
	case $part in
		*.pl) chosen_file "$part" || continue; part=sqsd-$part ;;
		*) chosen "$part" || continue ;;
	esac
	[[ " ${PARTS[*]:-} " == *" $part "* ]] || PARTS+=("$part")
done
for file in $FAUXQS_TESTS; do ! chosen fauxqs || PARTS+=("fauxqs-$file"); done

# ---- what a part leaves behind ----

# Ends the processes that work below a directory, if they do not end within
# $2 seconds; fails if there were such.  PostgreSQL stops immediately, which
# leaves no shared memory behind.  Runs as the servers' user, since root may
# not look into other users' processes in a container.
end_processes_below() {
	local tick pids pid patience=$((${2:-0} * 10))
	for ((tick = 0; tick < patience + 150; tick++)); do
		pids=$(find /proc -maxdepth 2 -name cwd \( -lname "$1" -o -lname "$1/*" \) -printf '%h\n' 2>/dev/null)
		[ -n "$pids" ] || break
		for pid in ${pids//\/proc\//}; do
			if [ $tick -ge $((patience + 100)) ]; then
				kill -KILL "$pid"
			elif [ $tick -ge $patience ] && [ $((tick % 20)) = 0 ]; then
				echo "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
				if [ "$(cat "/proc/$pid/comm")" = postgres ]; then kill -QUIT "$pid"; else kill -TERM "$pid"; fi
			fi
		done 2>/dev/null
		sleep 0.1
	done
	[ $tick -le $patience ]
}

end_processes() {
	as_user "cd / && $(declare -f end_processes_below) && end_processes_below '$1' ${2:-0}"
}

# The output and the logs of a part that failed, no data.
keep_logs() {
	local file
	[ -n "$KEPT" ] || KEPT=$(mktemp -d "${TMPDIR:-/tmp}/sqsbridge-failed.XXXXXX")
	mkdir "$KEPT/$1"
	(cd "$WORK/parts/$1" && find . -type f \( -name '*.tap' -o -name '*.log' -o -name '*.diffs' \
		-o -name '*.out' -o -path '*/log/*' \)) | while read -r file; do
		tail -c 20M "$WORK/parts/$1/$file" >"$KEPT/$1/$(tr / _ <<<"${file#./}")"
	done
	[ ! -e "$WORK/build.log" ] || cp "$WORK/build.log" "$KEPT/$1/"
	printf '   logs: %s\n' "$KEPT/$1"
}

finish() {
	trap '' INT TERM
	kill "${!RUNNING[@]}" 2>/dev/null
	end_processes "$WORK" >/dev/null
	[ -n "${KEEP_WORK:-}" ] || rm -rf "$WORK" 2>/dev/null || as_root rm -rf "$WORK"
}
declare -A RUNNING=()
trap finish EXIT
trap 'exit 130' INT TERM

# ---- the parts: each prints its result and leaves the numbers in a file ----

count() {
	echo "$1 $2" >>"$DIR/count"
	times >"$DIR/times"
	printf '   %s: %d passed, %d failed (%d s, %d s of CPU)\n' "$3" "$1" "$2" "$SECONDS" \
		"$(awk -F '[ms ]' 'NR == 2 { print int(60 * $1 + $2 + 60 * $4 + $5) }' "$DIR/times")"
}

# TAP in a file: count its lines; a plan that was not met is a failure.
count_tap() {
	local ok notok
	ok=$(grep -cE '^ok ' "$1")
	notok=$(grep -cE '^not ok ' "$1")
	[ "$3" = 0 ] || [ "$notok" -gt 0 ] || notok=1
	[ $((ok + notok)) -gt 0 ] || notok=1
	count "$ok" "$notok" "$2"
	[ "$notok" = 0 ] || { grep -E -A 12 '^not ok ' "$1" | head -n 60; echo ...; tail -n 5 "$1"; }
}

# Includes point down only, and not to and fro; see src/README.
part_layout() {
	local up
	up=$(cd "$TOP/src" && grep -nE '^#include "' -r base aws config receive send admin control | awk -F'[:/"]' '
		BEGIN { rank["base"] = rank["aws"] = 1; rank["config"] = 2; rank["receive"] = rank["send"] = 3; rank["admin"] = rank["control"] = 4 }
		{ from = $1; to = $5 }
		to in rank && from != to && rank[to] >= rank[from]')
	if [ -z "$up" ]; then count 1 0 "includes point down"; else count 0 1 "includes point down"; echo "$up"; fi
	up=$(cd "$TOP/src" && grep -oE '^#include "[a-z]+/[a-z0-9_]+' -r base aws config receive send admin control |
		sed -E 's/\.[ch]:#include "/ /' | awk '$1 != $2' | sort -u | tsort 2>&1 >/dev/null)
	if [ -z "$up" ]; then count 1 0 "no circle of includes"; else count 0 1 "no circle of includes"; echo "$up"; fi
}

# compile NAME BEFORE DIRECTORIES MAKE-ARGUMENTS: nothing may be said.  BEFORE is
# clean, or empty to make only what is not there.
compile() {
	as_user "cd '$WORK/compile' && for dir in $3; do
			${2:+make -s -C \$dir $2 PG_CONFIG='$PG_CONFIG' &&} make -s -j2 -C \$dir all PG_CONFIG='$PG_CONFIG' $4 || exit 1
		done" >"$DIR/compile.log" 2>&1
	if [ $? = 0 ] && [ ! -s "$DIR/compile.log" ]; then
		count 1 0 "$1"
	else
		count 0 1 "$1"
		head -n 40 "$DIR/compile.log"
	fi
}

# Every other compiler there is, and none has a warning.
part_compile() {
	local cc path quiet makefile seen
	as_user "cp -a '$WORK/src' '$WORK/compile'"
	seen=$(readlink -f "$(command -v cc)")
	# first, while the library is there
	makefile=$(dirname "$($PG_CONFIG --pgxs)")/../Makefile.global
	if grep -q '^with_llvm.*yes' "$makefile" && [ -x "$(sed -n 's/^CLANG *= *//p' "$makefile")" ]; then
		compile "bitcode for JIT" "" . with_llvm=yes
	fi
	for cc in gcc gcc-{9..20} clang clang-{11..25}; do
		path=$(command -v "$cc") && path=$(readlink -f "$path") && [[ " $seen " != *" $path "* ]] || continue
		seen="$seen $path"
		# flags and printf attributes are those of the compiler that PostgreSQL was built with
		[[ $cc = clang* ]] && quiet="-Wno-unknown-warning-option -Wno-ignored-attributes -Wno-ignored-optimization-argument" || quiet=
		compile "$("$cc" --version | head -n 1)" clean ". test/sqsd test/unit" "CC='$cc' COPT='-Werror $quiet' with_llvm=no"
	done
	late_symbols
}

# What minor releases have added to the server may not be needed by the library.
late_symbols() {
	local used
	used=$(nm -D --undefined-only "$WORK/src/sqsbridge.so" | awk '{ print $NF }' |
		grep -xFf "$TOP/test/lib/late_symbols.txt" | tr '\n' ' ')
	if [ -z "$used" ]; then
		count 1 0 "needs nothing that a minor release added"
	else
		count 0 1 "older minor releases do not export: $used"
	fi
}

# what a part without servers of PostgreSQL runs in
ALONE="env TMPDIR='$WORK/tmp' timeout -k 30 1800"

part_unit() {
	as_user "cd '$WORK/src/test/unit' && $ALONE make -s check PG_CONFIG='$PG_CONFIG' SQSD='$WORK/src/test/sqsd/sqsd'" >"$DIR/unit.tap" 2>&1
	count_tap "$DIR/unit.tap" "unit tests" $?
}

part_fuzz() {
	as_user "cd '$WORK/src/test/fuzz' && $ALONE make -s replay PG_CONFIG='$PG_CONFIG'" >"$DIR/fuzz.tap" 2>&1
	count_tap "$DIR/fuzz.tap" "fuzz inputs" $?
}

part_sqsd() {
	local status line
	as_user "cd '$WORK/src/test/sqsd' && $ALONE make -s check" >"$DIR/sqsd.log" 2>&1
	status=$?
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$DIR/sqsd.log" | tail -n 1)
	set -- $(printf '%s' "${line:-0 passed, 1 failed}" | tr -cd '0-9 ')
	[ $status = 0 ] || [ "$2" -gt 0 ] || set -- "$1" 1
	count "$1" "$2" "sqsd"
	[ "$2" = 0 ] || tail -n 30 "$DIR/sqsd.log"
}

part_sdk() {
	as_user "cd '$WORK/src/test/sdk' && $ALONE make -s check PG_CONFIG='$PG_CONFIG' SDK='$SDK_DIR'" >"$DIR/sdk.tap" 2>&1
	count_tap "$DIR/sdk.tap" "comparison with AWS's SDK" $?
}

part_regress() {
	init_cluster "$DIR"
	start_cluster "$DIR"
	as_user "cd '$WORK/src' && PGHOST='$DIR/socket' PGUSER=postgres make -s installcheck TAP_TESTS= PG_CONFIG='$PG_CONFIG' with_llvm=no" >"$DIR/regress.log" 2>&1
	stop_cluster "$DIR"
	count "$(grep -cE '^(test .*\.\.\. ok|ok [0-9])' "$DIR/regress.log")" \
		"$(grep -cE '^(test .*\.\.\. FAILED|not ok [0-9])' "$DIR/regress.log")" "pg_regress"
	grep -qE '^(test .*\.\.\. ok|ok [0-9])' "$DIR/regress.log" || { tail -n 20 "$DIR/regress.log"; count 0 1 "pg_regress did not run"; }
	[ ! -s "$WORK/src/regression.diffs" ] || { cp "$WORK/src/regression.diffs" "$DIR"; head -n 100 "$DIR/regression.diffs"; }
}

# part_tap KIND FILE
part_tap() {
	local status
	as_user "cd '$DIR' && env PATH='$WORK/src/test/lib:$PGBIN':\$PATH INITDB_TEMPLATES='$WORK/templates' \
		TMPDIR='$WORK/tmp' PG_TEST_PORT_DIR='$WORK/tmp/ports' \
		PG_TEST_TIMEOUT_DEFAULT=900 \
		PG_REGRESS='$PGXS_DIR/src/test/regress/pg_regress' \
		PERL5LIB='$PGXS_DIR/src/test/perl:$WORK/src/test/t' \
		TESTDIR='$DIR' SQSD='$WORK/src/test/sqsd/sqsd' \
		SQSBRIDGE_ENDPOINT_KIND=$1 FAUXQS_DIR='${FAUXQS_DIR:-}' SQSBRIDGE_LONG='$LONG' \
		timeout --foreground -k 30 ${LONG:+1}1800 perl '$WORK/src/test/t/$2'" >"$DIR/$2.tap" 2>&1 </dev/null
	status=$?
	end_processes "$DIR" 10 >"$DIR/left.log" ||
		{ echo "not ok - processes were left behind:" && sed 's/^/#   /' "$DIR/left.log"; } >>"$DIR/$2.tap"
	count_tap "$DIR/$2.tap" "$2 ($1)" $status
	[ -n "${KEEP_WORK:-}" ] || [ $status != 0 ] || as_user "rm -rf '$DIR/tmp_check'"
}

# run PART: prints all that the part has to say when it has ended
run() {
	DIR=$WORK/parts/$1
	SECONDS=0
	case $1 in
		sqsd-* | fauxqs-*) part_tap "${1%%-*}" "${1#*-}" ;;
		*) "part_$1" ;;
	esac
}

# Waits until a part has ended, and shows its result.
reap() {
	local pid part passed failed before=$FAILED
	wait -n -p pid "${!RUNNING[@]}"
	part=${RUNNING[$pid]}
	unset "RUNNING[$pid]"
	cat "$WORK/parts/$part/result"
	[ -s "$WORK/parts/$part/count" ] || (DIR=$WORK/parts/$part && count 0 1 "$part")
	while read -r passed failed; do
		PASSED=$((PASSED + passed))
		FAILED=$((FAILED + failed))
	done <"$WORK/parts/$part/count"
	[ $FAILED = $before ] || keep_logs "$part"
}

# ---- everything ----

export COPT=-Werror
if [ "${PARTS[*]}" = layout ]; then
	# only looks at the checkout
	choose_user
	[ "$(id -u)" != 0 ] || chown "$RUN_USER" "$WORK"
else
	install_packages libipc-run-perl libio-socket-ssl-perl openssl python3
	choose_user
	build
	PGXS_DIR=$(dirname "$($PG_CONFIG --pgxs)")/../..
fi

FAUXQS_DIR=${FAUXQS_DIR:-${TMPDIR:-/tmp}/sqsbridge-fauxqs-$FAUXQS_VERSION}
if chosen fauxqs; then
	install_fauxqs "$FAUXQS_DIR" "$FAUXQS_VERSION" || echo "   fauxqs could not be installed"
fi
SDK_DIR=${SDK_DIR:-${TMPDIR:-/tmp}/sqsbridge-sdk-$(cksum <"$TOP/test/sdk/package-lock.json" | cut -d ' ' -f 1)}
if chosen sdk; then
	install_sdk "$SDK_DIR" || echo "   AWS's SDK could not be installed"
fi

say "${#PARTS[@]} parts, $JOBS at a time"
as_user "mkdir '$WORK/tmp' '$WORK/templates' && cd '$WORK' && mkdir -p ${PARTS[*]/#/parts/}"
for part in "${PARTS[@]}"; do
	[ ${#RUNNING[@]} -lt "$JOBS" ] || reap
	# in a process group of its own: ^C is for this script, which ends them all
	set -m
	run "$part" >"$WORK/parts/$part/result" 2>&1 &
	set +m
	RUNNING[$!]=$part
done
while [ ${#RUNNING[@]} -gt 0 ]; do reap; done

printf '\n%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" = 0 ] && [ "$PASSED" -gt 0 ]
