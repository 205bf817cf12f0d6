#!/usr/bin/env bash
# The cluster of cluster.sh with the Slurm of Debian 13 (24.11), on a machine with another Debian.
#
#   newer.sh STATE_DIR up | down
#
# Slurm and the login node run in a Debian 13 below $NEWER_ROOT (made when it is not there: 600 MB),
# in a mount namespace of their own; homes, /scratch, the network and STATE_DIR are those of this
# machine. Tests find it as any other: STREAMER_TEST_CLUSTER=STATE_DIR.
#
# Exits with 77 where that root file system cannot be made: not root, nothing may be mounted, or
# Debian's servers do not answer. Anything else that goes wrong is a failure.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in daemon users idp sshd slurm config; do
  # shellcheck source=/dev/null
  . "$HERE/$part.sh"
done
[ $# -eq 2 ] || die "usage: newer.sh STATE_DIR up|down"
cannot() { echo "it cannot be made here: $*" >&2; exit 77; }
[ "$(id -u)" = 0 ] || cannot "a root file system needs root"

mkdir -p "$1"/{pids,log,keys,authorized}
STATE=$(cd "$1" && pwd)
[ ! -s "$STATE/newer-root" ] || NEWER_ROOT=$(cat "$STATE/newer-root")
NEWER_ROOT=${NEWER_ROOT:-/var/tmp/firecrest-newer}
chmod 755 "$STATE" "$STATE"/{pids,log,keys,authorized}
ports

# from_debian COMMAND...: with what it needs of Debian's servers. Not in a condition, which would
# have the command go on after its failures.
from_debian() {
  trap 'debian_answers || cannot "$(mirror) does not answer"' EXIT
  "$@"
  trap - EXIT
}

# The one that this machine uses.
mirror() {
  local site
  site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | grep -m1 '/debian/*$' || true)
  echo "${site:-http://deb.debian.org/debian}"
}

# Asked by apt, which knows proxies, and is there before anything is installed.
debian_answers() {
  local file status=0
  file=$(mktemp)
  /usr/lib/apt/apt-helper -o Acquire::Retries=2 -o Acquire::http::Timeout=20 download-file \
    "$(mirror)/dists/trixie/InRelease" "$file" >/dev/null 2>&1 || status=$?
  rm -f "$file"
  return "$status"
}

up() {
  # Most containers may not.
  unshare --mount --propagation private mount -t proc proc /proc || cannot "nothing may be mounted"
  command -v npm >/dev/null || from_debian packages nodejs npm
  from_debian packages curl jq debootstrap openssh-client
  make_users
  make_keys
  idp_up
  [ -e "$NEWER_ROOT/complete" ] || from_debian make_root
  echo "$NEWER_ROOT" >"$STATE/newer-root"
  unshare --mount --propagation private bash "$HERE/newer.sh" "$STATE" mount-and-start
  write_env
  write_config
}

make_root() {
  local script=/usr/share/debootstrap/scripts/trixie
  [ -e "$script" ] || ln -s sid "$script"
  say "making $NEWER_ROOT"
  rm -rf "$NEWER_ROOT"
  debootstrap --variant=minbase --include=ca-certificates trixie "$NEWER_ROOT" "$(mirror)" \
    >"$STATE/log/debootstrap.log" 2>&1 || { tail -5 "$STATE/log/debootstrap.log"; die "debootstrap failed"; }
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
  from_debian packages "${PACKAGES[@]}" curl jq
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
