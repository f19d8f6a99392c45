"""JSON messages over a TCP connection: length first, limited in size, every wait with a timeout."""

import json
import select
import socket
import struct
import threading
import time
from typing import Any, Final

LARGEST_MESSAGE_BYTES: Final = 4 << 20
_SEND_SECONDS: Final = 20.0
_LENGTH: Final = struct.Struct("!I")

Message = dict[str, Any]


class LinkLost(Exception):  # noqa: N818 - an ending, not an error of the caller
    """The other side is gone, silent for too long, or sends what is no message."""


class Link:
    """One end of a connection. Any thread may send; one at a time may receive."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connected socket."""
        self._connection = connection
        self._sending = threading.Lock()
        self._received = bytearray()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            LinkLost: It cannot be delivered.
            ValueError: It is too large or no JSON.
        """
        data = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
        if len(data) > LARGEST_MESSAGE_BYTES:
            msg = f"a message of {len(data)} bytes exceeds {LARGEST_MESSAGE_BYTES}"
            raise ValueError(msg)
        try:
            with self._sending:
                self._connection.settimeout(_SEND_SECONDS)
                self._connection.sendall(_LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise LinkLost(f"the connection is lost: {error}") from error

    def receive(self, timeout_seconds: float) -> Message:
        """Wait for a whole message.

        Raises:
            TimeoutError: None came in time; what came of one is kept for the next call.
            LinkLost: The connection ended, or what came is no message.
        """
        deadline = time.monotonic() + timeout_seconds
        (length,) = _LENGTH.unpack(self._peek(_LENGTH.size, deadline))
        if length > LARGEST_MESSAGE_BYTES:
            raise LinkLost(f"a message of {length} bytes exceeds {LARGEST_MESSAGE_BYTES}")
        data = self._peek(_LENGTH.size + length, deadline)[_LENGTH.size :]
        del self._received[: _LENGTH.size + length]
        try:
            message = json.loads(data)
        except ValueError as error:
            raise LinkLost(f"not JSON: {error}") from error
        if not isinstance(message, dict):
            raise LinkLost(f"a message must be an object, not {type(message).__name__}")
        return message

    def close(self) -> None:
        """End the connection; the other side learns it."""
        self._connection.close()

    def _peek(self, count: int, deadline: float) -> bytes:
        """The first bytes received, once there are so many; they stay."""
        while len(self._received) < count:
            try:
                # Not settimeout: it would also bound what another thread is sending.
                left = max(deadline - time.monotonic(), 0.0)
                ready, _, _ = select.select([self._connection], [], [], left)
                data = self._connection.recv(1 << 16) if ready else None
            except (OSError, ValueError) as error:
                raise LinkLost(f"the connection is lost: {error}") from error
            if data is None:
                raise TimeoutError
            if not data:
                raise LinkLost("the other side ended the connection")
            self._received += data
        return bytes(self._received[:count])
