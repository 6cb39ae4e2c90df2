"""Whether a client has sent data that its connection has not read yet.

Data waits in the system's buffer until the event loop reads it. After the loop was held up or the process suspended,
the buffer may hold requests that came in time: closing such a connection would cut its client off.
"""

import fcntl
import struct
import termios
from typing import Any, Final

_COUNT: Final = struct.Struct("i")


def has_unread(transport: Any) -> bool:
    """Whether the system's buffer holds data for the connection; False if it is closed already."""
    if transport.is_closing():
        return False
    try:
        file = transport.get_extra_info("socket").fileno()
        unread: int = _COUNT.unpack(fcntl.ioctl(file, termios.FIONREAD, _COUNT.pack(0)))[0]
    except (OSError, ValueError, AttributeError):
        return False
    return unread > 0
