"""File descriptor limits: how many this process may open, how many of them connections may use, and a reserve."""

import contextlib
import os
import resource
from typing import Final

MAX_LIMIT: Final = 1 << 20  # most to ask for: more are never needed, and some systems allow a thousand times as many
RESERVE_SIZE: Final = 8  # descriptors in a Reserve
MIN_FREE: Final = 3  # further ones that must be free
OTHER_USES: Final = (
    128  # not for connections but for files, memory, pipes and new processes, unless that is more than half
)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of this process and its children to the hard limit, at most ENOUGH.

    The usual soft limit, 1,024, is for programs that use select(2), which none of these does.
    """
    with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit of its own
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MAX_LIMIT if hard == resource.RLIM_INFINITY else min(hard, MAX_LIMIT)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_connections() -> int:
    """Return how many of this process's descriptors connections may use: half, or all but KEPT if that is more."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_LIMIT if soft == resource.RLIM_INFINITY else max(soft - OTHER_USES, soft // 2)


class DescriptorReserve:
    """Descriptors held in reserve: when none are left, they are closed so that essential work can use them."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def fill(self) -> bool:
        """Open the reserved descriptors, if SPARE more are available; return whether they are."""
        if enough := has_free_descriptors(RESERVE_SIZE - len(self._held) + MIN_FREE):
            self._held += [one for _ in range(RESERVE_SIZE - len(self._held)) if (one := _opened()) is not None]
        return enough

    def release(self) -> None:
        """Close the reserved descriptors, so that they can be used."""
        while self._held:
            os.close(self._held.pop())


def has_free_descriptors(count: int = 1) -> bool:
    """Whether `count` descriptors can be opened now."""
    opened = [_opened() for _ in range(count)]
    for one in opened:
        if one is not None:
            os.close(one)
    return None not in opened


def _opened() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
