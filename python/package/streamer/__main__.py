"""The command ``streamer``, as ``python -m streamer`` and as a script."""

import signal
import sys

from streamer._engine import main as _main


def main() -> int:
    # Python would only note the signal, and never look while the engine waits for input. The engine
    # has a handler of its own from when there is something to end in order.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _main(["streamer", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
