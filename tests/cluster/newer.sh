#!/usr/bin/env bash
# The cluster of cluster.sh with the Slurm of Debian 13 (24.11), on a machine with another Debian.
#
#   newer.sh STATE_DIR up | down
#
# Slurm and the login node run in a Debian 13 below $NEWER_ROOT (made when it is not there: 600 MB),
# in a mount namespace of their own; homes, /scratch, the network and STATE_DIR are those of this
# machine. Tests find it as any other: STREAMER_TEST_CLUSTER=STATE_DIR.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in daemon users idp sshd slurm config; do
  # shellcheck source=/dev/null
  . "$HERE/$part.sh"
done
[ $# -eq 2 ] || die "usage: newer.sh STATE_DIR up|down"

mkdir -p "$1"/{pids,log,keys,authorized}
STATE=$(cd "$1" && pwd)
[ ! -s "$STATE/newer-root" ] || NEWER_ROOT=$(cat "$STATE/newer-root")
NEWER_ROOT=${NEWER_ROOT:-/var/tmp/firecrest-newer}
chmod 755 "$STATE" "$STATE"/{pids,log,keys,authorized}
ports

up() {
  [ "$(id -u)" = 0 ] || die "a root file system needs root"
  command -v npm >/dev/null || packages nodejs npm
  packages curl jq debootstrap openssh-client
  make_users
  make_keys
  idp_up
  [ -e "$NEWER_ROOT/complete" ] || make_root
  echo "$NEWER_ROOT" >"$STATE/newer-root"
  unshare --mount --propagation private bash "$HERE/newer.sh" "$STATE" mount-and-start
  write_env
  write_config
}

make_root() {
  local mirror script=/usr/share/debootstrap/scripts/trixie
  # The one that this machine uses.
  mirror=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | grep -m1 '/debian/*$' || true)
  [ -e "$script" ] || ln -s sid "$script"
  say "making $NEWER_ROOT"
  rm -rf "$NEWER_ROOT"
  debootstrap --variant=minbase --include=ca-certificates trixie "$NEWER_ROOT" "${mirror:-http://deb.debian.org/debian}" \
    >"$STATE/log/debootstrap.log" 2>&1 || die "debootstrap; see $STATE/log"
  cp /etc/apt/apt.conf.d/*prox* "$NEWER_ROOT/etc/apt/apt.conf.d/" 2>/dev/null || true
  touch "$NEWER_ROOT/complete"
}

# In a mount namespace, which lasts as long as what is started in it.
mount_and_start() {
  local place
  mount -t proc proc "$NEWER_ROOT/proc"
  mount --rbind /dev "$NEWER_ROOT/dev"
  install -d -m 1777 /scratch
  for place in /home /scratch "$STATE" "$HERE"; do
    mkdir -p "$NEWER_ROOT$place"
    mount --bind "$place" "$NEWER_ROOT$place"
  done
  cp /etc/hosts /etc/resolv.conf "$NEWER_ROOT/etc/"
  chroot "$NEWER_ROOT" bash "$HERE/newer.sh" "$STATE" start
}

start_inside() {
  packages "${PACKAGES[@]}" curl jq
  make_users
  sshd_up
  slurm_up
}

down() {
  local file
  if alive slurmctld; then
    nsenter --mount="/proc/$(cat "$STATE/pids/slurmctld.pid")/ns/mnt" \
      chroot "$NEWER_ROOT" bash "$HERE/newer.sh" "$STATE" stop
  fi
  # What is left when it did not come up whole.
  for file in "$STATE"/pids/*.pid; do stop "$(basename "$file" .pid)" 3; done
  say down
}

case $2 in
  up) up ;;
  mount-and-start) mount_and_start ;;
  start) start_inside ;;
  stop) stop sshd 3; slurm_down ;;
  down) down ;;
  *) die "usage: newer.sh STATE_DIR up|down" ;;
esac
