#!/usr/bin/env bash
# A real cluster on one Debian machine, for tests: Slurm with accounting and REST, a login node
# (OpenSSH), an OpenID provider, three users.
#
#   cluster.sh STATE_DIR up | down | status | token [CLIENT SECRET]
#
# "up" may be said again. All state lies in STATE_DIR, but for the users fireuser, firesrv and
# another with their homes, and /scratch. Several instances can run at once: each takes free
# ports, written to STATE_DIR/env. STATE_DIR/firecrest.yaml is a configuration of firecrest-api
# for it, STATE_DIR/known_hosts holds the login node's keys, STATE_DIR/keys the users'.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in daemon users idp sshd slurm config; do
  # shellcheck source=/dev/null
  . "$HERE/$part.sh"
done
[ $# -ge 2 ] || die "usage: cluster.sh STATE_DIR up|down|status|token"

mkdir -p "$1"/{pids,log,keys,authorized}
STATE=$(cd "$1" && pwd)
chmod 755 "$STATE" "$STATE"/{pids,log,keys,authorized}
ports

up() {
  [ "$(id -u)" = 0 ] || die "a cluster of several users needs root"
  command -v npm >/dev/null || packages nodejs npm
  packages "${PACKAGES[@]}" curl jq
  make_users
  make_keys
  idp_up
  sshd_up
  slurm_up
  write_env
  write_config
}

status() {
  local file name
  for file in "$STATE"/pids/*.pid; do
    name=$(basename "$file" .pid)
    if alive "$name"; then echo "$name up"; else echo "$name down"; fi
  done
}

case $2 in
  up) up ;;
  down) slurm_down; stop sshd 3; stop idp 3; say down ;;
  status) status ;;
  token) token "${3:-firecrest-test-client}" "${4:-wZVHVIEd9dkJDh9hMKc6DTvkqXxnDttk}" ;;
  *) die "usage: cluster.sh STATE_DIR up|down|status|token" ;;
esac
