#!/usr/bin/env bash
# From the request for a transfer to an endpoint that listens, on a real Slurm, beside the
# scheduler alone and beside the job of the Python service (virtual environment and pip).
#
#   tests/cluster/cluster.sh STATE_DIR up
#   benches/job-latency.sh STATE_DIR [ROUNDS]
#
# Uses target/release/firecrest-api, and streamer beside it. As root; needs curl and jq.
set -euo pipefail
cd "$(dirname "$0")/.."
state=$(cd "$1" && pwd) rounds=${2:-10}
# shellcheck source=/dev/null
. "$state/env"
export SLURM_CONF
home=/home/fireuser system=cluster-slurm-ssh
work=$(mktemp -d "$home/latency.XXXXXX")
api_log=$(mktemp)
chown fireuser "$work"
trap 'kill "$api_pid" 2>/dev/null; rm -rf "$work" "$api_log"' EXIT

as_user() { setpriv --reuid=fireuser --regid=users --init-groups "$@"; }
now() { date +%s.%N; }
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a - b }'; }
show() { # show NAME: median and extremes of the numbers on standard input
  sort -n | awk -v name="$1" '{ v[NR] = $1 } END {
    printf "%-44s %7.2f s   (%.2f to %.2f, %d rounds)\n", name, v[int((NR + 1) / 2)], v[1], v[NR], NR }'
}

NO_COLOR=1 RUST_LOG=info target/release/firecrest-api serve --config "$state/firecrest.yaml" \
  --host 127.0.0.1 --port 0 2>"$api_log" &
api_pid=$!
until api=$(grep -o 'listening address=[0-9.:]*' "$api_log"); do sleep 0.1; done
api=http://${api#*=}
token=$(tests/cluster/cluster.sh "$state" token)
call() { curl -fsS -X "$1" "$api$2" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' "${@:3}"; }
head -c 1000000 /dev/urandom >"$work/file"
chown fireuser "$work/file"
request='{"path":"'$work/file'","transferDirectives":{"transferMethod":"streamer"}}'

ours() { # one transfer, cancelled as soon as it listens
  local begun job
  rm -f "$home"/.f7t_transfers/job-*.json
  begun=$(now)
  job=$(call POST "/filesystem/$system/transfer/download" -d "$request" | jq -r .transferJob.jobId)
  until grep -qs '"listening"' "$home/.f7t_transfers/job-$system-$job.json"; do sleep 0.005; done
  minus "$(now)" "$begun"
  call DELETE "/compute/$system/jobs/$job"
}
alone() { # a job that only says when it runs
  local begun
  rm -f "$work/ran"
  begun=$(now)
  as_user sbatch --quiet --partition=xfer --chdir="$work" --output=/dev/null --wrap 'date +%s.%N >new; mv new ran'
  until [ -s "$work/ran" ]; do sleep 0.005; done
  minus "$(cat "$work/ran")" "$begun"
}
python() { # what the job of the Python service does before it listens
  local begun job
  begun=$(now)
  job=$(as_user sbatch --parsable --partition=xfer --chdir="$work" --output=/dev/null --wrap '
    python3 -m venv .venv-$SLURM_JOB_ID && . .venv-$SLURM_JOB_ID/bin/activate &&
    pip install --quiet firecrest-streamer && exec streamer server --secret abcdefghijklmnopqrstuv \
      --host 127.0.0.1 --public-ips 127.0.0.1 --port-range 29990 29999 --wait-timeout 30 \
      --inbound-transfer-limit 5368709120 send --path file')
  until ss -ltn | grep -q '127.0.0.1:2999[0-9]'; do
    [ -n "$(squeue -h -j "$job" -t PD,R,CF 2>/dev/null)" ] || { echo "the Python job ended" >&2; exit 1; }
    sleep 0.05
  done
  minus "$(now)" "$begun"
  scancel "$job"
  while ss -ltn | grep -q '127.0.0.1:2999[0-9]'; do sleep 0.05; done
}
repeat() { for _ in $(seq "$2"); do "$1"; done; }

ours >/dev/null # The first request installs the program.
repeat alone "$rounds" | show "sbatch to the first line of a job, alone"
repeat ours "$rounds" | show "request to a listening endpoint"
repeat python 3 | show "sbatch to a listening Python endpoint"
