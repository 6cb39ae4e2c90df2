"""Stops new connections to a listening socket, while connections that are being opened to it still complete.

Sockets that share a port (SO_REUSEPORT) have a queue each, and closing a socket resets the connections in its queue. So
no more may enter the queue first: a filter on the socket drops packets that open a connection (SYN without ACK). Their
clients repeat them, usually after a second, when another socket takes them; handshakes that have begun complete.
"""

import contextlib
import ctypes
import socket
import struct
from typing import Final

_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER, for which Python has no name
_FLAGS: Final = 13  # their offset in TCP's header
_SYN, _ACK = 0x02, 0x10
_LOAD_BYTE, _AND, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x54, 0x15, 0x06  # of classic BPF
_INSTRUCTION: Final = struct.Struct("HBBI")
_PROGRAM: Final = struct.Struct("HP")


def refuse_new_connections(listening: socket.socket) -> None:
    """Open no new connections to the socket from now on. No effect on systems without such filters (macOS)."""
    program = (
        (_LOAD_BYTE, 0, 0, _FLAGS),
        (_AND, 0, 0, _SYN | _ACK),
        (_JUMP_IF_EQUAL, 0, 1, _SYN),
        (_RETURN, 0, 0, 0),  # drop it
        (_RETURN, 0, 0, 0xFFFFFFFF),  # accept it whole
    )
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*one) for one in program))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, _PROGRAM.pack(len(program), ctypes.addressof(code)))
