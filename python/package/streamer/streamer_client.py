"""The client: what pyfirecrest imports, on the engine of ``streamer``.

>>> config = set_coordinates(coordinates)
>>> config.target = "result.h5"
>>> await client_receive(config)

Unlike in the package whose place this takes, a transfer that fails raises
:class:`StreamerError`. One that returns was verified by whoever received: except that a plaintext
endpoint to which a file was sent gives no receipt.
"""

import asyncio
import base64
import binascii
import contextvars
import json
import logging
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Protocol

from streamer._engine import StreamerError, Transfer

__all__ = [
    "ClientConfig",
    "CoordinatesError",
    "Result",
    "StreamReporter",
    "StreamerError",
    "client_receive",
    "client_send",
    "set_coordinates",
]

_log = logging.getLogger(__name__)

#: Set to 1 to let endpoints of the Python streamer be spoken to in plaintext, where a program
#: in between (pyfirecrest) does not pass ``allow_websocket`` on.
ALLOW_WEBSOCKET_VARIABLE = "STREAMER_ALLOW_WEBSOCKET"

_PROGRESS_SECONDS = 0.5


class CoordinatesError(StreamerError, ValueError):
    """The coordinates are none."""

    exit_code = 11
    hint = "pass the whole text that the transfer request returned"


class StreamReporter(Protocol):
    """Whoever wants to be told; the same as in the package whose place this takes."""

    def info(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...

    def progress(
        self, current: int, total: int, prefix: str = "", suffix: str = "", length: int = 40
    ) -> None: ...


@dataclass
class ClientConfig:
    """Where to, and what. Coordinates are a secret: ``repr`` does not show them."""

    target: str
    port_range: List[int]
    ip_list: List[str]
    secret: str = field(repr=False)
    #: Speak plaintext to an endpoint that understands nothing else. ``None``: as the variable
    #: STREAMER_ALLOW_WEBSOCKET says.
    allow_websocket: Optional[bool] = None
    #: Seconds for which an endpoint that does not answer is tried.
    wait: float = 60.0
    #: What else the coordinates say.
    more: Dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Result:
    """What was done."""

    bytes: int
    #: ``quic``, ``tls``, or ``ws``, which is plaintext.
    transport: str
    #: BLAKE3 of the file, as ``b3sum`` prints it.
    blake3: Optional[str]


def set_coordinates(coordinates: str) -> ClientConfig:
    """Reads coordinates; the caller then sets ``target``.

    :raises CoordinatesError: when they are none.
    """
    try:
        text = coordinates.strip()
        data = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        known = {key: data.pop(key) for key in ("ports", "ips", "secret")}
    except (AttributeError, binascii.Error, KeyError, TypeError, ValueError):
        # The cause may hold part of the secret.
        raise CoordinatesError("these coordinates are none") from None
    return ClientConfig(
        target="",
        port_range=known["ports"],
        ip_list=known["ips"],
        secret=known["secret"],
        more=data,
    )


async def client_send(config: ClientConfig, reporter: Optional[StreamReporter] = None) -> Result:
    """Sends the file ``config.target``.

    :raises StreamerError: when it is not in place at the other side, verified.
    """
    return await _transfer("send", config, reporter)


async def client_receive(config: ClientConfig, reporter: Optional[StreamReporter] = None) -> Result:
    """Receives into ``config.target``, which must not exist.

    :raises StreamerError: when it is not in place here, verified.
    """
    return await _transfer("receive", config, reporter)


async def _transfer(
    operation: str, config: ClientConfig, reporter: Optional[StreamReporter]
) -> Result:
    transfer = Transfer()
    # No task of its own: whoever cancels all tasks of a loop would end that one first, and leave the
    # thread behind.
    running = asyncio.get_running_loop().run_in_executor(
        None,
        contextvars.copy_context().run,
        transfer.run,
        operation,
        _encode(config),
        os.fspath(config.target),
        config.wait,
        _allows_websocket(config),
    )
    try:
        result = Result(*await _watch(running, transfer, reporter))
    except (Exception, asyncio.CancelledError, KeyboardInterrupt, SystemExit) as error:
        if not running.done():
            # It was cancelled, or its reporter failed. What arrived is made durable first: the
            # same call continues from it.
            transfer.stop()
            await asyncio.wait({running})
        elif isinstance(error, StreamerError) and reporter is not None:
            reporter.error(str(error))
        running.exception()
        raise
    if reporter is not None:
        reporter.info(f"{result.bytes} bytes over {result.transport}")
    _log.debug("%s: %d bytes over %s", operation, result.bytes, result.transport)
    return result


async def _watch(
    running: "asyncio.Future[Any]", transfer: Transfer, reporter: Optional[StreamReporter]
) -> Any:
    while reporter is not None:
        done, _ = await asyncio.wait({running}, timeout=_PROGRESS_SECONDS)
        current, total = transfer.progress()
        if total > 0:
            reporter.progress(current, total)
        if done:
            break
    # Shielded: cancelling must not leave the thread behind.
    return await asyncio.shield(running)


def _encode(config: ClientConfig) -> str:
    known = {"ports": config.port_range, "ips": config.ip_list, "secret": config.secret}
    text = json.dumps({**config.more, **known})
    return base64.urlsafe_b64encode(text.encode()).decode()


def _allows_websocket(config: ClientConfig) -> bool:
    if config.allow_websocket is not None:
        return config.allow_websocket
    return os.environ.get(ALLOW_WEBSOCKET_VARIABLE) == "1"
