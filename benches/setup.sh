#!/bin/sh
# Installs what side-by-side measures against, on Debian. Running it again changes nothing.
#   benches/setup.sh [VENV]    (as root for the packages; VENV defaults to benches/.venv)
# No service is left running: side-by-side starts its own sshd and nginx on free ports.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/.venv}
packages="openssh-server openssh-client nginx-light curl rsync tar openssl python3-venv ca-certificates"

missing=
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $package"
done

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup.sh: missing:$missing" >&2
        echo "hint: run this as root, or: sudo apt-get install$missing" >&2
        exit 1
    fi
    # A policy of 101 makes apt leave the services of these packages stopped.
    policy=/usr/sbin/policy-rc.d
    placed=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        placed=$policy
        trap 'rm -f "$placed"' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of package names
    apt-get install -y -qq --no-install-recommends $missing
fi

# The command itself is tried: it names its interpreter by path, so a moved one is broken.
if ! "$venv/bin/streamer" --help >/dev/null 2>&1; then
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check firecrest-streamer
fi

/usr/sbin/sshd -V 2>&1 | head -n 1 || true
/usr/sbin/nginx -v 2>&1
curl --version | head -n 1
rsync --version | head -n 1
echo "firecrest-streamer (PyPI) $("$venv/bin/python" -c \
    'import importlib.metadata as m; print(m.version("firecrest-streamer"))') in $venv"
