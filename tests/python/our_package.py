"""Receives by our package; arguments: the target, and a word for a reporter that fails or that
cancels. The coordinates are read from standard input.

Prints the result, or the exception and what it says about itself.
"""

import asyncio
import sys

from streamer import streamer_client
from streamer.streamer_server import Operation

assert {operation.value for operation in Operation} == {"send", "receive"}


class Reporter:
    """Counts what it is told."""

    def __init__(self):
        self.progressed = 0

    def info(self, message):
        print("info:", message)

    def warning(self, message):
        print("warning:", message)

    def error(self, message):
        print("error:", message)

    def progress(self, current, total, prefix="", suffix="", length=40):
        assert 0 <= current <= total
        self.progressed += 1


class Failing(Reporter):
    """As on a terminal that is closed."""

    def progress(self, current, total, prefix="", suffix="", length=40):
        raise BrokenPipeError("nobody reads this")


class Cancelling(Reporter):
    """As whoever shuts a loop down."""

    def progress(self, current, total, prefix="", suffix="", length=40):
        tasks = asyncio.all_tasks()
        assert len(tasks) == 1, tasks
        for task in tasks:
            task.cancel()


REPORTERS = {"failing": Failing, "cancelling": Cancelling}


async def main():
    try:
        config = streamer_client.set_coordinates(sys.stdin.read())
        assert config.secret not in repr(config)
        config.target = sys.argv[1]
        config.wait = 10
        reporter = Reporter()
        if len(sys.argv) > 2:
            reporter = REPORTERS[sys.argv[2]]()
            # Before all is there.
            streamer_client._PROGRESS_SECONDS = 0.001
        result = await streamer_client.client_receive(config, reporter)
        assert reporter.progressed > 0
        print("done:", result.bytes, result.transport, result.blake3)
    except streamer_client.StreamerError as error:
        print("raised:", type(error).__name__, error.exit_code, error.hint, "|", error)
    except BrokenPipeError as error:
        print("raised:", error)
    except asyncio.CancelledError:
        print("raised: CancelledError")


asyncio.run(main())
