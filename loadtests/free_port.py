"""Ports for the servers of tests and loadtests.

They are below the range from which the system takes the ports of outgoing connections: one that is free now cannot
become somebody's before the server listens, or while it is restarted. Each process has a block of its own.
"""

import itertools
import socket
from collections.abc import Iterator
from functools import cache
from typing import Final

FIRST: Final = 12_000
BLOCK_SIZE: Final = 500
BLOCKS: Final = 40  # the last ends below 32,768, where Linux begins with outgoing connections


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and that no other process is given meanwhile."""
    for _ in range(BLOCK_SIZE):
        port = next(_ports())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"{BLOCK_SIZE} ports are all in use")


@cache
def _ports() -> Iterator[int]:
    """The ports of the first block that no other process has, over and over."""
    for number in range(BLOCKS):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0gateway-test-ports-{number}")
        except OSError:
            claim.close()
            continue
        claim.detach()  # it stays open, and so the name taken, until the process ends
        first = FIRST + number * BLOCK_SIZE
        return itertools.cycle(range(first, first + BLOCK_SIZE))
    raise RuntimeError(f"{BLOCKS} processes have a block of ports each; end some of them")
