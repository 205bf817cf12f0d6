# shellcheck shell=bash
# Daemons without systemd, and what is needed around them. Sourced, never executed.
# Each is started in a session of its own, its pid is kept in $STATE/pids/NAME.pid, and it is
# ended through that pid only.
set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }
die() { echo "error: $*" >&2; exit 1; }

# alive NAME: whether that daemon runs.
alive() {
  local file=$STATE/pids/$1.pid
  [ -s "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null
}

# start NAME COMMAND...: runs it in the background unless it runs; its output is kept.
start() {
  local name=$1; shift
  alive "$name" && return
  rm -f "$STATE/pids/$name.pid"
  # shellcheck disable=SC2016
  (cd "$STATE" && exec setsid bash -c 'echo $$ >"$0"; exec "$@"' "$STATE/pids/$name.pid" "$@") \
    >>"$STATE/log/$name.log" 2>&1 </dev/null &
  wait_for 5 "the pid of $name" test -s "$STATE/pids/$name.pid"
}

# stop NAME SECONDS: asks it to end, waits so long, then kills it.
stop() {
  local file=$STATE/pids/$1.pid pid tries
  [ -s "$file" ] || return 0
  pid=$(cat "$file")
  kill "$pid" 2>/dev/null || true
  for tries in $(seq $(($2 * 20))); do
    kill -0 "$pid" 2>/dev/null || break
    : "$tries"; sleep 0.05
  done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$file"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || die "no $what; see $STATE/log"
    sleep 0.05
  done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# packages NAME...: installs those Debian packages that are missing; none starts a daemon.
packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "missing Debian packages: ${missing[*]}"
  say "installing ${missing[*]}"
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$STATE/log/apt.log" 2>&1 ||
    { tail -5 "$STATE/log/apt.log"; die "apt-get install failed"; }
}

# What a login node and Slurm need.
# shellcheck disable=SC2034
PACKAGES=(munge slurmctld slurmdbd slurmd slurm-client slurmrestd slurm-wlm-basic-plugins
  slurm-wlm-mysql-plugin slurm-wlm-jwt-plugin mariadb-server mariadb-client
  openssh-client openssh-server file acl bzip2 xz-utils procps)

# ports: the twenty of this directory, by their names.
ports() {
  choose_ports
  SSH_PORT=$BASE_PORT IDP_PORT=$((BASE_PORT + 1)) REST_PORT=$((BASE_PORT + 2)) DB_PORT=$((BASE_PORT + 3))
  CTLD_PORT=$((BASE_PORT + 4)) DBD_PORT=$((BASE_PORT + 5)) SLURMD_PORT=$((BASE_PORT + 6))
}

# choose_ports: twenty ports in a row that nobody uses, the same each time for one directory.
# They are below the range from which the kernel takes ports for outgoing connections.
choose_ports() {
  if [ -s "$STATE/base-port" ]; then BASE_PORT=$(cat "$STATE/base-port"); return; fi
  # One instance chooses at a time, and others see its choice before anything listens.
  exec 9>>/tmp/firecrest-test-cluster.ports; flock 9
  local first try port taken
  first=$(($(printf %s "$STATE" | cksum | cut -d' ' -f1) % 500))
  for try in $(seq 0 499); do
    BASE_PORT=$((20000 + (first + try) % 500 * 20))
    taken=$(grep -sx "$BASE_PORT .*" /tmp/firecrest-test-cluster.ports | cut -d' ' -f2- || true)
    [ -z "$taken" ] || [ ! -d "$taken" ] || continue
    for port in $(seq "$BASE_PORT" $((BASE_PORT + 19))); do listens "$port" && continue 2; done
    echo "$BASE_PORT" >"$STATE/base-port"
    echo "$BASE_PORT $STATE" >>/tmp/firecrest-test-cluster.ports
    exec 9>&-
    return
  done
  die "no free ports"
}
