# Bench.pm: what the benchmarks have in common: the servers, what they cost,
# medians, targets.  Perl's core modules only.
package Bench;

use strict;
use warnings;

use Exporter 'import';
use HTTP::Tiny;
use JSON::PP;
use List::Util qw(sum0);
use POSIX ();
use Time::HiRes qw(time usleep);

our @EXPORT = qw($endpoint $port $http $json sql admin books api_calls process_cpu read_stat
  server_cpu memory wal_flushes wait_until median thousands target print_targets machine begin_bench read_port);
our ($endpoint, $port, $http, $json);

my ($pgdir, $postmaster, $hung, @targets, $wal_flushes_query);
my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK());

sub read_port
{
	my ($file) = @_;
	open my $f, '<', $file or die "$file: $!";
	return <$f> + 0;
}

# begin_bench(file with sqsd's port, PostgreSQL's directory, s until something
# counts as hung)
sub begin_bench
{
	(my $portfile, $pgdir, $hung) = @_;
	$port = read_port($portfile);
	$postmaster = do { open my $f, '<', "$pgdir/data/postmaster.pid" or die $!; <$f> + 0 };
	$endpoint = "http://127.0.0.1:$port";
	$http = HTTP::Tiny->new(timeout => 60);
	$json = JSON::PP->new->utf8->canonical;
	$| = 1;

	# of WAL, by whatever process
	$wal_flushes_query = sql('SHOW server_version_num') >= 180000
	  ? q{SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal' AND context = 'normal'}
	  : q{SELECT wal_sync FROM pg_stat_wal};
	return;
}

# ---- the servers ----

sub sql
{
	my ($query) = @_;
	open my $psql, '-|', "$ENV{PGBIN}/psql", '-h', "$pgdir/socket", '-U', 'postgres',
	  '-XqAt', '-F', ' ', '-v', 'ON_ERROR_STOP=1', '-c', $query, 'bench'
	  or die "psql: $!";
	my $out = do { local $/; <$psql> };
	close $psql or die "failed: $query\n";
	chomp $out if defined $out;
	return $out;
}

sub admin
{
	my ($method, $path, $in) = @_;
	if ($endpoint =~ /^https:/)
	{
		# Perl's core has no TLS; an argument has room for 128 kB
		open my $file, '>', "$ENV{WORK}/admin.json" or die "$ENV{WORK}/admin.json: $!";
		print $file $json->encode($in) if defined $in;
		close $file;
		open my $curl, '-|', 'curl', '-sSkf', '--noproxy', '*', '-X', $method, '--data-binary',
		  "\@$ENV{WORK}/admin.json", "$endpoint/_sqsd/$path"
		  or die "curl: $!";
		my $out = do { local $/; <$curl> };
		close $curl or die "$method $path failed\n";
		return !defined $out || $out eq '' ? {} : $json->decode($out);
	}
	my $reply = $http->request($method, "$endpoint/_sqsd/$path",
		defined $in ? { content => $json->encode($in) } : {});
	die "$method $path: $reply->{status} $reply->{content}" unless $reply->{success};
	return $reply->{content} eq '' ? {} : $json->decode($reply->{content});
}

sub books
{
	my ($queue) = @_;
	return admin('GET', 'stats')->{queues}{$queue};
}

sub api_calls
{
	my ($books) = @_;
	return sum0(values %{ $books->{calls} });
}

# User and system time in µs of a list of processes, and of those of their
# children that are no more.
sub process_cpu
{
	my $sum = 0;
	foreach my $stat (@_)
	{
		$stat =~ s/^.*\) //s or next;
		my @field = split ' ', $stat;
		$sum += sum0(@field[ 11 .. 14 ]);
	}
	return $sum * 1e6 / $ticks;
}

sub read_stat
{
	my ($pid) = @_;
	open my $f, '<', "/proc/$pid/stat" or return ();
	my $line = <$f>;
	return defined $line ? ($line) : ();
}

# All processes of the PostgreSQL server, past ones included: the postmaster
# is the parent of all of them, and waits for each.
sub server_cpu
{
	my @stats = read_stat($postmaster);
	foreach my $dir (glob '/proc/[0-9]*')
	{
		my ($stat) = read_stat(substr($dir, 6)) or next;
		push @stats, $stat if $stat =~ /\) \S (\d+)/ && $1 == $postmaster;
	}
	return process_cpu(@stats);
}

# Memory of processes in kB, what they share divided among those who share it.
sub memory
{
	my $sum = 0;
	foreach my $pid (@_)
	{
		open my $f, '<', "/proc/$pid/smaps_rollup" or next;
		while (my $line = <$f>) { $sum += $1 if $line =~ /^Pss: +(\d+)/; }
	}
	return $sum;
}

# Statistics reach shared memory late: wait until they stand still.
sub wal_flushes
{
	my $last = -1;
	my $since = time();
	while (1)
	{
		my $now = sql($wal_flushes_query);
		$since = time() if $now != $last;
		return $now if time() - $since > 2.5;
		$last = $now;
		usleep(250_000);
	}
}

sub wait_until
{
	my ($condition, $what) = @_;
	my $until = time() + $hung;
	until ($condition->())
	{
		die "timed out: $what\n" if time() > $until;
		usleep(50_000);
	}
	return;
}

# ---- figures ----

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return @sorted % 2 ? $sorted[ $#sorted / 2 ]
	  : ($sorted[ $#sorted / 2 ] + $sorted[ @sorted / 2 ]) / 2;
}

sub thousands
{
	my $n = sprintf '%.0f', $_[0];
	1 while $n =~ s/^(\d+)(\d{3})/$1,$2/;
	return $n;
}

sub target
{
	my ($name, $figure, $cmp, $limit, $format) = @_;
	my $ok = $cmp eq '>=' ? $figure >= $limit : $cmp eq '>' ? $figure > $limit : $figure <= $limit;
	my $number = sub { defined $format ? sprintf $format, $_[0] : thousands($_[0]) };
	push @targets, sprintf "%-58s %10s   %2s %8s   %s", $name, $number->($figure), $cmp,
	  $number->($limit), $ok ? 'met' : 'NOT MET';
	return;
}

sub print_targets
{
	printf "\n%-58s %10s   %-11s\n", 'targets', 'figure', 'target';
	print "$_\n" foreach @targets;
	return;
}

sub machine
{
	my $model = 'unknown processor';
	my $cpus = 0;
	open my $f, '<', '/proc/cpuinfo' or return;
	while (<$f>)
	{
		$model = $1 if /^model name\s*:\s*(.*)/;
		$cpus++ if /^processor\s*:/;
	}
	open my $l, '<', '/proc/loadavg' or return;
	my ($load) = split ' ', <$l>;
	return "$cpus processors ($model), load $load at the start";
}

1;
