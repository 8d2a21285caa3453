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
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@" || sudo "$@"; fi
}

# Debian packages that are not installed yet.
missing() {
	local package
	for package in "$@"; do
		dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' ||
			printf '%s ' "$package"
	done
}

install_packages() {
	local wanted
	command -v apt-get >/dev/null || die "this needs Debian's apt-get"

	# A fresh PostgreSQL would make a cluster and start it: not here.
	if [ -z "$(ls /usr/lib/postgresql 2>/dev/null)" ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
		as_root mkdir -p /etc/postgresql-common
		echo "create_main_cluster = false" | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
	fi

	wanted=$(missing gcc make curl perl ca-certificates pkg-config libcurl4-openssl-dev \
		libssl-dev libmicrohttpd-dev libjansson-dev postgresql-server-dev-all postgresql "$@")
	# any one server with its headers will do
	if command -v pg_config >/dev/null && [ -e "$(pg_config --pgxs)" ] && [ -x "$(pg_config --bindir)/initdb" ]; then
		wanted=$(printf '%s ' $wanted | sed 's/postgresql-server-dev-all //; s/postgresql //')
	fi
	if [ -n "${wanted// /}" ]; then
		say "installing: $wanted"
		as_root apt-get update -qq || die "apt-get update failed"
		# postgresql-server-dev-all brings a compiler for JIT nobody needs
		# here: take the headers of the default version
		if [[ " $wanted " == *" postgresql-server-dev-all "* ]]; then
			local major
			major=$(apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
			[ -n "$(ls /usr/lib/postgresql 2>/dev/null)" ] && major=$(ls /usr/lib/postgresql | sort -n | tail -n 1)
			wanted=${wanted/postgresql-server-dev-all/postgresql-server-dev-$major}
		fi
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $wanted >"$WORK/apt.log" 2>&1 ||
			{ tail -n 20 "$WORK/apt.log"; die "installing packages failed"; }
	fi

	PG_CONFIG=${PG_CONFIG:-pg_config}
	[ -e "$($PG_CONFIG --pgxs)" ] || for PG_CONFIG in /usr/lib/postgresql/*/bin/pg_config; do :; done
	[ -e "$($PG_CONFIG --pgxs)" ] || die "no PostgreSQL server headers found (postgresql-server-dev-NN)"
	PGBIN=$($PG_CONFIG --bindir)
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

as_user() {
	if [ "$(id -un)" = "$RUN_USER" ]; then
		bash -c "$1"
	else
		setpriv --reuid="$RUN_USER" --regid="$(id -g "$RUN_USER")" --clear-groups \
			env HOME="$WORK" bash -c "$1"
	fi
}

# Build and install from a copy, with -Wall -Wextra -Werror.
build() {
	say "building sqsbridge for $($PG_CONFIG --version)"
	mkdir "$WORK/src"
	(cd "$TOP" && tar -cf - --exclude=.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' .) | tar -xf - -C "$WORK/src"
	make -C "$WORK/src" -s -j2 PG_CONFIG="$PG_CONFIG" with_llvm=no >"$WORK/build.log" 2>&1 ||
		{ tail -n 40 "$WORK/build.log"; die "the build failed"; }
	as_root make -C "$WORK/src" -s PG_CONFIG="$PG_CONFIG" with_llvm=no install >>"$WORK/build.log" 2>&1 ||
		{ tail -n 20 "$WORK/build.log"; die "make install failed"; }
	make -C "$WORK/src/test/sqsd" -s >>"$WORK/build.log" 2>&1 ||
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
