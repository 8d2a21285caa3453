# setup.sh: what test/demo.sh and test/check.sh share.  Sourced, not run.
#
# Installs missing Debian packages, builds sqsbridge and sqsd in a temporary
# copy, and runs servers as an unprivileged user.  Neither the checkout nor
# any existing PostgreSQL cluster is touched; the extension is installed into
# the system's PostgreSQL directories, where CREATE EXTENSION looks for it.

set -u
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/sqsbridge.XXXXXX")
chmod 755 "$WORK"

say() { printf '\n== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "this needs root or sudo, to run: $*"
	fi
}

# Debian packages that are not installed yet.
missing() {
	local package
	for package in "$@"; do
		dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' ||
			printf '%s ' "$package"
	done
}

# apt_update, apt_install PACKAGE...: with waiting for another apt to finish,
# and without restarting any service of this machine.
apt_update() {
	as_root apt-get -o DPkg::Lock::Timeout=300 update -qq >"$WORK/apt.log" 2>&1 ||
		{ tail -n 20 "$WORK/apt.log"; die "apt-get update failed"; }
}

apt_install() {
	say "installing: $*"
	as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
		apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" \
		>"$WORK/apt.log" 2>&1 </dev/null ||
		{ tail -n 20 "$WORK/apt.log"; die "installing packages failed"; }
}

# Has this pg_config a PostgreSQL that we can build for and run?  Clients and
# development files of libpq alone bring a pg_config, too.
usable() {
	local major
	major=$("$1" --version 2>/dev/null | sed -nE 's/^PostgreSQL ([0-9]+).*/\1/p')
	[ "${major:-0}" -ge 15 ] && [ -x "$("$1" --bindir)/initdb" ] && [ -x "$("$1" --bindir)/psql" ] &&
		[ -e "$("$1" --pgxs)" ] && [ -e "$("$1" --includedir-server)/postgres.h" ]
}

# Sets PG_CONFIG: the one asked for, or the first that will do.
find_postgresql() {
	local candidate
	if [ -n "${PG_CONFIG:-}" ]; then
		usable "$PG_CONFIG" ||
			die "PG_CONFIG=$PG_CONFIG: no PostgreSQL 15 or later with server, clients and server headers"
		return
	fi
	for candidate in pg_config $(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -rV); do
		usable "$candidate" && PG_CONFIG=$candidate && return
	done
	return 1
}

# Headers for the newest server that is there; if none is, a server as well.
install_postgresql() {
	local major=
	local default=/usr/share/postgresql-common/createcluster.conf
	local conf=/etc/postgresql-common/createcluster.conf
	local quiet=

	major=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | tr -cd '0-9\n' | sort -n | tail -n 1)
	[ -n "$major" ] || major=$(apt-cache depends postgresql | sed -nE 's/.*Depends: postgresql-([0-9]+)$/\1/p' | head -n 1)
	[ "${major:-0}" -ge 15 ] ||
		die "no PostgreSQL 15 or later: this machine has packages of ${major:-none}; https://apt.postgresql.org has newer ones"

	# A fresh PostgreSQL would make a cluster and start it: not here.
	if [ -z "$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] && [ ! -e $conf ]; then
		quiet=1
		as_root mkdir -p "$(dirname $conf)"
		echo "create_main_cluster = false" | as_root tee $conf >/dev/null
	fi
	apt_install "postgresql-$major" "postgresql-client-$major" "postgresql-server-dev-$major"
	if [ -n "$quiet" ] && [ -e $default ]; then
		as_root cp $default $conf
	fi
}

# install_packages PACKAGE...: these and what both scripts need.
install_packages() {
	local wanted updated=
	command -v apt-get >/dev/null || die "this needs Debian's apt-get"

	wanted=$(missing gcc libc6-dev make ca-certificates curl perl pkg-config libcurl4-openssl-dev \
		libssl-dev libmicrohttpd-dev libjansson-dev "$@")
	if [ -n "$wanted" ]; then
		apt_update
		updated=1
		apt_install $wanted
	fi
	if ! find_postgresql; then
		[ -n "$updated" ] || apt_update
		install_postgresql
		find_postgresql || die "no PostgreSQL with server, clients and server headers, though they were installed"
	fi
	PGBIN=$($PG_CONFIG --bindir)
}

# install_fauxqs DIR VERSION: somebody else's SQS emulator, from npm.
install_fauxqs() {
	[ ! -d "$1/node_modules/fauxqs" ] || return 0
	command -v npm >/dev/null || { apt_update; apt_install nodejs npm; }
	mkdir -p "$1"
	(cd "$1" && npm install --no-audit --no-fund --loglevel=error "fauxqs@$2") >"$WORK/npm.log" 2>&1 </dev/null ||
		{ tail -n 20 "$WORK/npm.log"; return 1; }
	chmod -R a+rX "$1"
}

# install_peer: what the benchmarks compare with, in $WORK/peer.
install_peer() {
	if ! command -v npm >/dev/null; then
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm >"$WORK/apt.log" 2>&1 ||
			{ tail -n 20 "$WORK/apt.log"; die "installing npm failed (--without-peer does without)"; }
	fi
	say "installing the peer: $(sed -n 's/^\t\t"\(.*\)": "\(.*\)".*/\1@\2/p' "$TOP/test/bench/peer/package.json" | tr '\n' ' ')"
	mkdir "$WORK/peer"
	cp "$TOP"/test/bench/peer/* "$WORK/peer/"
	(cd "$WORK/peer" && npm install --no-audit --no-fund --silent) >"$WORK/npm.log" 2>&1 </dev/null ||
		{ tail -n 20 "$WORK/npm.log"; die "installing the peer failed (--without-peer does without)"; }
	chmod -R a+rX "$WORK/peer"
}

# install_sdk DIR: AWS's SDK for JavaScript, from npm, as test/sdk has it.  The
# file that is looked for is written last.
install_sdk() {
	[ ! -e "$1/node_modules/.package-lock.json" ] || return 0
	command -v npm >/dev/null || { apt_update; apt_install nodejs npm; }
	mkdir -p "$1"
	cp "$TOP/test/sdk/package.json" "$TOP/test/sdk/package-lock.json" "$1"
	(cd "$1" && npm ci --no-audit --no-fund --loglevel=error) >"$WORK/npm.log" 2>&1 </dev/null ||
		{ tail -n 20 "$WORK/npm.log"; return 1; }
	chmod -R a+rX "$1"
}

# Servers refuse to run as root.
choose_user() {
	if [ "$(id -u)" = 0 ]; then
		RUN_USER=postgres
		id postgres >/dev/null 2>&1 || RUN_USER=nobody
	else
		RUN_USER=$(id -un)
	fi
}

# as_user COMMAND: under reap, once it is built, as process 1 of a container
# may not reap, and PostgreSQL takes a zombie for a server that is running.
as_user() {
	local reap=
	[ ! -x "$WORK/reap" ] || reap=$WORK/reap
	if [ "$(id -un)" = "$RUN_USER" ]; then
		$reap bash -c "$1"
	else
		setpriv --reuid="$RUN_USER" --regid="$(id -g "$RUN_USER")" --clear-groups \
			env HOME="$WORK" $reap bash -c "$1"
	fi
}

# Build and install from a copy.  COPT in the environment adds to the flags.
build() {
	say "building sqsbridge for $($PG_CONFIG --version)"
	mkdir "$WORK/src"
	(cd "$TOP" && tar -cf - --exclude=.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' .) | tar -xf - -C "$WORK/src"
	make -C "$WORK/src" -s -j2 PG_CONFIG="$PG_CONFIG" with_llvm=no >"$WORK/build.log" 2>&1 ||
		{ tail -n 40 "$WORK/build.log"; die "the build failed"; }
	as_root make -C "$WORK/src" -s PG_CONFIG="$PG_CONFIG" with_llvm=no install >>"$WORK/build.log" 2>&1 ||
		{ tail -n 20 "$WORK/build.log"; die "make install failed"; }
	cc -O -Wall -o "$WORK/reap" "$TOP/test/lib/reap.c" >>"$WORK/build.log" 2>&1 ||
		{ tail -n 20 "$WORK/build.log"; die "building test/lib/reap.c failed"; }
	make -C "$WORK/src/test/sqsd" -s -j2 >>"$WORK/build.log" 2>&1 ||
		{ tail -n 40 "$WORK/build.log"; die "building test/sqsd failed"; }
	as_root chown -R "$RUN_USER" "$WORK"
}

# init_cluster DIR [SETTING...]: listens on a socket in its directory only.
init_cluster() {
	local dir=$1
	shift
	as_user "mkdir -p '$dir/socket' && '$PGBIN/initdb' -D '$dir/data' -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N" >"$WORK/initdb.log" 2>&1 ||
		{ tail -n 20 "$WORK/initdb.log"; die "initdb failed"; }
	{
		echo "shared_preload_libraries = 'sqsbridge'"
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$dir/socket'"
		echo "max_worker_processes = 32"
		echo "log_line_prefix = '%m [%p] %b '"
		printf '%s\n' "$@"
	} | as_user "cat >> '$dir/data/postgresql.conf'"
}

start_cluster() {
	as_user "'$PGBIN/pg_ctl' -D '$1/data' -l '$1/log' -w -t 120 start" >"$WORK/start.log" 2>&1 ||
		{ tail -n 20 "$1/log"; die "PostgreSQL did not start"; }
}

stop_cluster() {
	[ -e "$1/data/postmaster.pid" ] &&
		as_user "'$PGBIN/pg_ctl' -D '$1/data' -m ${2:-fast} -w stop" >/dev/null 2>&1
	return 0
}
