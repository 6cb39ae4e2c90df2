"""Stops new connections to a listening socket, while connections already being opened to it still complete.

Of sockets that share a port (SO_REUSEPORT) each has a queue of its own, and whatever is in it when the socket is closed
is reset. So first it must get no more: a filter on the socket drops what opens a connection (SYN without ACK). Who has
sent that sends it again, after a second as a rule, and another socket takes it then; what has begun is completed.
"""

import contextlib
import ctypes
import socket
import struct
from typing import Final

_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER, which Python has no name for
_FLAGS: Final = 13  # where TCP's header has them
_SYN, _ACK = 0x02, 0x10
_LOAD_BYTE, _AND, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x54, 0x15, 0x06  # of classic BPF
_INSTRUCTION: Final = struct.Struct("HBBI")
_PROGRAM: Final = struct.Struct("HP")


def unchosen(listening: socket.socket) -> None:
    """From now on. Where the system has no such filter (macOS) nothing changes."""
    program = (
        (_LOAD_BYTE, 0, 0, _FLAGS),
        (_AND, 0, 0, _SYN | _ACK),
        (_JUMP_IF_EQUAL, 0, 1, _SYN),
        (_RETURN, 0, 0, 0),  # drop it
        (_RETURN, 0, 0, 0xFFFFFFFF),  # all of it may come in
    )
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*one) for one in program))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, _PROGRAM.pack(len(program), ctypes.addressof(code)))
