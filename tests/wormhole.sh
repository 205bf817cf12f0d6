#!/usr/bin/env bash
# Makes target/python/wormhole: magic-wormhole with its two servers, from PyPI, for the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${CARGO_TARGET_DIR:-target}/python/wormhole
[ ! -e "$environment/ready" ] || exit 0
rm -rf "$environment"
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check \
  magic-wormhole==0.24.0 magic-wormhole-mailbox-server magic-wormhole-transit-relay
touch "$environment/ready"
