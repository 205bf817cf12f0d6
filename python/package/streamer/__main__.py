"""The command ``streamer``, as ``python -m streamer`` and as a script."""

import sys

from streamer._engine import main as _main


def main() -> int:
    return _main(["streamer", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
