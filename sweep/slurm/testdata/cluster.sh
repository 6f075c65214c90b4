#!/usr/bin/env bash
# A Slurm cluster on the loopback address for tests: slurmctld, four slurmd and
# a munged of its own in a temporary directory, without systemd and cgroups.
#
#   cluster.sh COMMAND [ARG...]   starts it, runs COMMAND with SLURM_CONF and
#                                 CLUSTER (this script) set, tears it down, and
#                                 exits with COMMAND's status
#   cluster.sh lose NODE          kills all processes of a node, as a power cut does
#
# Exits with 77, after a line that begins with "not checked here:", where no
# cluster can be had: it takes root, and Debian's packages, which it installs.
set -euo pipefail
self="$(realpath "$0")"
export PATH="$PATH:/usr/sbin:/sbin"
packages="slurm-wlm slurmctld slurmd slurm-client munge"

skip() { echo "not checked here: $*" >&2; exit 77; }

# Processes whose environment at their start holds the variable: those of a
# cluster are known by SLURM_CONF, since the path of that file is its own.
with_variable() {
	local p
	for p in /proc/[0-9]*; do
		if { tr '\0' '\n' <"$p/environ" | grep -qxF "$1"; } 2>/dev/null; then basename "$p"; fi
	done
}

lose() {
	local node="$1" pid parent
	kill -9 "$(cat "$(dirname "$SLURM_CONF")/slurmd-$node.pid")" || true
	# The processes of its jobs, and the slurmstepd above them.
	for pid in $(with_variable "SLURMD_NODENAME=$node"); do
		{ tr '\0' '\n' <"/proc/$pid/environ" | grep -qxF "SLURM_CONF=$SLURM_CONF"; } 2>/dev/null || continue
		parent="$(awk '/^PPid:/ {print $2}' "/proc/$pid/status" 2>/dev/null || true)"
		case "$(tr '\0' ' ' <"/proc/${parent:-0}/cmdline" 2>/dev/null || true)" in
		slurmstepd*) kill -9 "$parent" || true ;;
		esac
		kill -9 "$pid" 2>/dev/null || true
	done
}

start() {
	local dir
	dir="$(dirname "$SLURM_CONF")"
	setsid slurmd -D -N "$1" >>"$dir/log/slurmd-$1.out" 2>&1 </dev/null &
	disown
}

case "${1:-}" in
"") sed -n '2,13s/^# \{0,1\}//p' "$self"; exit 2 ;;
lose) lose "$2"; exit ;;
esac

[ "$(id -u)" = 0 ] || skip "a Slurm cluster of its own takes root"
missing=""
for name in slurmctld slurmd sbatch munged; do command -v $name >/dev/null || missing="$name"; done
if [ -n "$missing" ]; then
	command -v apt-get >/dev/null || skip "no $missing, and no apt-get to install it"
	{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages; } >&2 ||
		skip "Debian's packages $packages cannot be installed"
fi

dir="$(mktemp -d /tmp/tern-slurm.XXXXXX)"
chmod 755 "$dir"
conf="$dir/slurm.conf"
down() {
	local pid
	trap - EXIT INT TERM
	for _ in 1 2 3; do # the second time what a process started meanwhile
		for pid in $(with_variable "SLURM_CONF=$conf"); do kill -9 "$pid" 2>/dev/null || true; done
	done
	[ -z "${munged:-}" ] || kill "$munged" 2>/dev/null || true
	wait 2>/dev/null || true
	[ -n "${CLUSTER_KEEP:-}" ] && echo "kept $dir" >&2 || rm -rf "$dir"
}
trap down EXIT
trap 'exit 130' INT TERM

mkdir -p "$dir"/{state,log,spool,munge}
chmod 700 "$dir/munge"
head -c 1024 /dev/urandom >"$dir/munge/key"
chmod 600 "$dir/munge/key"
mkdir -m 755 "$dir/socket"
munged --foreground --force --key-file="$dir/munge/key" --socket="$dir/socket/munge" --pid-file="$dir/munge/pid" \
	--seed-file="$dir/munge/seed" --log-file="$dir/munge/log" >"$dir/log/munged.out" 2>&1 </dev/null &
munged=$!

# cred_expire is also how long a requeued job waits: 120 s where it is not set.
port=$((20000 + $$ % 20000))
cat >"$conf" <<CONF
ClusterName=tern
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/socket/munge,cred_expire=${CLUSTER_CRED_EXPIRE:-5}
SlurmctldPort=$port
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,defer_batch
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MaxArraySize=1001
ReturnToService=2
SlurmdTimeout=5
InactiveLimit=0
KillWait=10
SlurmdParameters=config_overrides
NodeName=n[1-4] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 4))] CPUs=1 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n[1-4] MaxTime=INFINITE State=UP PriorityTier=10
CONF

export SLURM_CONF="$conf" CLUSTER="$self"
for _ in $(seq 50); do [ -S "$dir/socket/munge" ] && break; sleep 0.1; done
setsid slurmctld -D -c >"$dir/log/slurmctld.out" 2>&1 </dev/null &
disown
for n in n1 n2 n3 n4; do start "$n"; done
for i in $(seq 300); do
	[ "$(sinfo -h -N -p main -t idle -o %N 2>/dev/null | wc -l)" = 4 ] && break
	if [ "$i" = 300 ]; then
		tail -n 20 "$dir"/log/* >&2
		echo "the cluster does not come up" >&2
		exit 1
	fi
	sleep 0.1
done
"$@" & # in the background, so that a signal ends this script, and with it the cluster, at once
wait $!
