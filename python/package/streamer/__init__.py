"""Moves large files to and from FirecREST endpoints: encrypted, verified, resumed.

Takes the place of the Python streamer of the same name: the modules ``streamer_client`` and
``streamer_server`` have what pyfirecrest and others import from there.
"""

from streamer._engine import StreamerError

__all__ = ["StreamerError"]
