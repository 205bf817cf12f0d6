"""What others import from the server side; the endpoint itself is ``streamer server``."""

from enum import Enum


class Operation(Enum):
    """What an endpoint does. Its client does the opposite."""

    send = "send"
    receive = "receive"
