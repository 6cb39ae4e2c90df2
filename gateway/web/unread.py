"""Whether a client has sent what its connection has not looked at yet.

What a client sends lies with the system until the event loop comes to read it. A loop that was held up, or a process
that was suspended, finds requests there that have come in time. Who closed such a connection would cut its client off.
"""

import fcntl
import struct
import termios
from typing import Any, Final

_COUNT: Final = struct.Struct("i")


def has_unread(transport: Any) -> bool:
    """Of the bytes that the system keeps for the connection; False where it has none, or is closed already."""
    if transport.is_closing():
        return False
    try:
        file = transport.get_extra_info("socket").fileno()
        unread: int = _COUNT.unpack(fcntl.ioctl(file, termios.FIONREAD, _COUNT.pack(0)))[0]
    except (OSError, ValueError, AttributeError):
        return False
    return unread > 0
