#!/usr/bin/env bash
# The bare node of a cluster that is up: a slurmd on a machine without internet, Python, pip, curl
# or wget, where nothing but /scratch can be written. It runs until it is killed, and nothing is
# left of it then: its network, mounts and processes are in namespaces of its own.
#
#   bare-node.sh STATE_DIR
set -euo pipefail

STATE=$(cd "$1" && pwd)
# shellcheck source=/dev/null
. "$STATE/env"

if [ -z "${BARE_OUTSIDE:-}" ]; then
  # The network of the machine stays open, for its end of the line.
  exec 8</proc/self/ns/net
  BARE_OUTSIDE=/proc/self/fd/8 exec unshare --net --mount --uts "$0" "$STATE"
fi

# One line to the host. No way leads further: there is no default route.
network() {
  local end=bare${BARE_NODE//./}
  end=${end:0:15}
  hostname bare
  ip link add eth0 type veth peer name "$end" netns "$BARE_OUTSIDE"
  ip address add "$BARE_NODE/30" dev eth0
  ip link set lo up
  ip link set eth0 up
  nsenter --net="$BARE_OUTSIDE" ip address add "$BARE_HOST/30" dev "$end"
  nsenter --net="$BARE_OUTSIDE" ip link set "$end" up
}

# What jobs can write: /scratch. slurmd has its own directory besides.
read_only() {
  local place
  mount --make-rprivate /
  for place in "$STATE" /scratch; do mount --bind "$place" "$place"; done
  for place in /home /tmp /var/tmp /dev/shm /run; do
    [ -d "$place" ] || continue
    mount --rbind "$place" "$place"
    mount -o remount,bind,ro "$place"
  done
  mount -o remount,bind,ro /
}

# Programs that jobs of others need, and ours must not.
masked() {
  local program
  for program in /usr/{local/,}bin/{python,pip,perl,curl,wget}*; do
    if [ -f "$program" ] && [ ! -L "$program" ]; then mount --bind /dev/null "$program"; fi
  done
}

# The controller is at the other end of the line.
configure() {
  sed "s#^\(SlurmctldHost=.*\)(127.0.0.1)#\1($BARE_HOST)#" "$SLURM_CONF" >"$STATE/etc/slurm-bare.conf"
  mkdir -p "$STATE/slurmd/bare"
}

network
configure
masked
read_only
export SLURM_CONF=$STATE/etc/slurm-bare.conf
exec unshare --pid --fork --kill-child --mount-proc slurmd -D -N bare -f "$SLURM_CONF"
