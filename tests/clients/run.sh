#!/usr/bin/env bash
# Existing clients, and recorded answers of the Python service, against firecrest-api on a real
# cluster (tests/cluster): everything that somebody moving here already uses.
#
#   run.sh CLUSTER_STATE_DIR [replay|methods|commands|habits|aiida…]
#
# As root, with firecrest-api and streamer built. The recordings are not part of the project: they are looked
# for in $FIRECREST_CONTRACT, else in ../shared/contract.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
HERE=tests/clients
[ $# -ge 1 ] || { echo "usage: run.sh CLUSTER_STATE_DIR [replay|methods|commands|habits|aiida…]" >&2; exit 2; }
[ -f "$1/env" ] || { echo "$1 is no state of a cluster: tests/cluster/cluster.sh $1 up" >&2; exit 2; }
# shellcheck source=/dev/null
. "$1/env"
shift
WHAT=${*:-replay methods commands habits aiida}
VERSIONS="3.8.1 latest"
AIIDA=1.0.0
BASE_PORT=$SSH_PORT
# shellcheck source=/dev/null
. tests/cluster/config.sh
# shellcheck source=/dev/null
. tests/cluster/daemon.sh
python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv

secret_of() { # secret_of CLIENT
  sed -n "s/.*'$1': { secret: '\([^']*\)'.*/\1/p" tests/cluster/idp/idp.mjs
}

# The four systems of the recordings.
configuration() {
  auth_config
  echo "clusters:"
  system_config cluster-slurm-ssh ssh
  system_config cluster-slurm-s3 ssh | sed '/data_transfer:/,$d'
  cat <<C
      data_transfer:
        service_type: s3
        name: s3-storage
        private_url: http://127.0.0.1:9
        public_url: http://127.0.0.1:9
        access_key_id: none
        secret_access_key: none
        region: us-east-1
        ttl: 604800
C
  system_config cluster-slurm-api rest
  system_config cluster-slurm-hybrid hybrid
}

start_server() {
  configuration >"$WORK/firecrest.yaml"
  target/debug/firecrest-api serve --config "$WORK/firecrest.yaml" --port 0 >"$WORK/log" 2>&1 &
  SERVER=$!
  for _ in $(seq 100); do
    URL=$(sed -n '/listening/s/.*\(127\.0\.0\.1:[0-9]*\).*/http:\/\/\1/p' "$WORK/log")
    if [ -n "$URL" ] && curl -fs "$URL/status/liveness/" >/dev/null; then return; fi
    kill -0 $SERVER || break
    sleep 0.1
  done
  cat "$WORK/log" >&2
  exit 1
}

stop_server() {
  [ -z "${SERVER:-}" ] || { kill "$SERVER"; wait "$SERVER" || true; }
  rm -rf "$WORK"
}

replay() {
  local contract=${FIRECREST_CONTRACT:-../shared/contract}
  if [ ! -f "$contract/differential.py" ]; then
    echo "skipped: no recordings in $contract (FIRECREST_CONTRACT names another place)"
    return
  fi
  cat >"$WORK/token" <<C
case \$1 in
$(for client in test other nokey short; do echo "  firecrest-$client-client) secret=$(secret_of firecrest-$client-client) ;;"; done)
esac
curl -fsS http://127.0.0.1:$IDP_PORT/token -d grant_type=client_credentials -d client_id=\$1 -d client_secret=\$secret |
  jq -r .access_token
C
  python3 $HERE/replay.py "$contract" docs/DIFFERENCES.md --base-url "$URL" --system cluster-slurm-ssh \
    --slurm-conf "$SLURM_CONF" --token-cmd "sh $WORK/token {client}"
}

# A virtual environment with one package.
environment() { # environment NAME REQUIREMENT
  local directory=target/clients/$1
  if [ ! -x "$directory/bin/firecrest" ]; then
    python3 -m venv "$directory"
    "$directory/bin/pip" install -q --disable-pip-version-check "$2"
  fi
  echo "$directory"
}

run_script() { # run_script DIRECTORY SCRIPT
  echo "-- $2 with $("$1/bin/pip" freeze | grep -iE '^(pyfirecrest|aiida.firecrest)=' | paste -sd ' ')"
  FIRECREST_URL=$URL FIRECREST_SYSTEM=cluster-slurm-ssh FIRECREST_CLIENT_ID=firecrest-test-client \
    FIRECREST_CLIENT_SECRET=$(secret_of firecrest-test-client) \
    AUTH_TOKEN_URL=http://127.0.0.1:$IDP_PORT/token PYTHONDONTWRITEBYTECODE=1 \
    "$1/bin/python" "$HERE/$2.py"
}

with_clients() { # with_clients SCRIPT
  local version package
  for version in $VERSIONS; do
    package=pyfirecrest
    [ "$version" = latest ] || package=pyfirecrest==$version
    run_script "$(environment "pyfirecrest-$version" "$package")" "$1"
  done
}

WORK=$(mktemp -d /tmp/firecrest-clients.XXXXXX)
trap stop_server EXIT
start_server
for what in $WHAT; do
  case $what in
    replay) replay ;;
    aiida) run_script "$(environment "aiida-firecrest-$AIIDA" "aiida-firecrest==$AIIDA")" aiida_plugin ;;
    *) with_clients "$what" ;;
  esac
done
