#!/usr/bin/env bash
# Makes the virtual environments that tests/it uses, below the target directory:
#   python/pypi   the packages that others run today, as pinned in tests/python/
#   python/ours   the same pyfirecrest with our package (python/) in place of the streamer
# What is there already is kept; only our package is built and installed anew.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
pins=tests/python/requirements.txt

venv() { # venv NAME REQUIREMENTS
  local directory=$target/python/$1
  cmp -s "$2" "$directory/installed.txt" && "$directory/bin/python" -c '' 2>/dev/null && return
  python3 -m venv --clear "$directory"
  "$directory/bin/python" -m pip install -q --disable-pip-version-check -r "$2"
  cp "$2" "$directory/installed.txt"
}

mkdir -p "$target/python"
venv pypi "$pins"
# pip would look for the streamer of this name on PyPI: only what it does not depend on.
grep -v -e '^firecrest-streamer' -e '^pyfirecrest' "$pins" >"$target/python/others.txt"
venv ours "$target/python/others.txt"
# The profile of the tests: what they have built is not built again.
MATURIN_PEP517_ARGS="--profile dev" "$target/python/ours/bin/python" -m pip install -q \
  --disable-pip-version-check --force-reinstall --no-deps ./python "$(grep '^pyfirecrest' "$pins")"
"$target/python/ours/bin/python" -m pip check
