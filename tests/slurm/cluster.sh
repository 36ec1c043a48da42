#!/usr/bin/env bash
# A SLURM cluster on this machine: one node with 8 CPUs, 16 GB and two placeholders for GPUs.
# Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge.
#
#   tests/slurm/cluster.sh start DIR && source DIR/env.sh
#   tests/slurm/cluster.sh stop DIR
#
# All files are in DIR (a short path, for a socket lies there); key, ports and processes are its own.
set -euo pipefail

usage="usage: cluster.sh start|stop DIR"
action=${1:?$usage}
dir=$(realpath -m "${2:?$usage}")
export SLURM_CONF=$dir/slurm.conf
PATH=$PATH:/usr/sbin

daemon() {
    setsid "$@" > "$dir/$1.out" 2>&1 &
    echo $! >> "$dir/pids"
}

start() {
    local name ports
    for name in munged slurmctld slurmd srun; do
        command -v "$name" > /dev/null || { echo "cluster.sh: $name is not installed" >&2; exit 1; }
    done
    mkdir -p "$dir"/{bin,spool,state}
    read -ra ports < <(python3 -c 'import socket
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(server.getsockname()[1] for server in taken))')
    (umask 077 && head -c 1024 /dev/urandom > "$dir/munge.key")
    for name in gpu0 gpu1; do ln -s /dev/null "$dir/$name"; done
    echo "Name=gpu Type=a100 File=$dir/gpu[0-1]" > "$dir/gres.conf"
    cat > "$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
AuthType=auth/munge
# A job that its node lost is queued again this many seconds later.
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Memory is looked at every second, and a job above its own is killed; no cgroups needed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
# No accounting database: finished jobs stay in squeue for an hour instead.
AccountingStorageType=accounting_storage/none
MinJobAge=3600
KillWait=1
GresTypes=gpu
NodeName=node0 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 Gres=gpu:a100:2
PartitionName=compute Nodes=node0 Default=YES
PartitionName=gpu Nodes=node0
CONF
    # The jobs' step executor hides SLURM_CONF from the srun that it calls.
    printf '#!/bin/sh\nSLURM_CONF=%q exec %q "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$dir/bin/srun"
    chmod +x "$dir/bin/srun"
    printf 'export SLURM_CONF=%q PATH=%q:$PATH\n' "$SLURM_CONF" "$dir/bin" > "$dir/env.sh"
    daemon munged --foreground --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" \
        --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" --seed-file="$dir/munged.seed"
    for _ in {1..50}; do [ -S "$dir/munge.socket" ] && break; sleep 0.1; done
    daemon slurmctld -D -c
    daemon slurmd -D -N node0
    for _ in {1..100}; do
        [ "$(timeout 5 sinfo --noheader --partition compute --format %T 2> /dev/null)" = idle ] && return
        sleep 0.2
    done
    tail -n 5 "$dir"/*.out >&2
    echo "cluster.sh: the node did not come up" >&2
    stop
    exit 1
}

stop() {
    timeout 10 scancel --user "$(id -un)" || echo "cluster.sh: could not cancel the jobs" >&2
    for _ in {1..50}; do
        [ "$(timeout 5 squeue --noheader --states R,CG 2> /dev/null)" ] || break
        sleep 0.2
    done
    tac "$dir/pids" | while read -r pid; do
        kill "$pid" 2> /dev/null || continue
        while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
    done
    rm "$dir/pids"
}

case $action in
    start | stop) "$action" ;;
    *) echo "$usage" >&2; exit 2 ;;
esac
