"""How many file descriptors this process may have, and how many of them connections may take."""

import contextlib
import os
import resource
from typing import Final

ENOUGH: Final = 1 << 20  # more are never needed, and some systems allow a thousand times as many
RESERVED: Final = 8
SPARE: Final = 3
KEPT: Final = 128  # for files, memory, pipes and new processes, as far as there are so many


def raise_limit() -> None:
    """Let this process and those that it starts have as many as the system allows.

    The usual soft limit, 1,024, is for programs that wait by select(2), which none of these does.
    """
    with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit of its own
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def for_connections() -> int:
    """How many of this process's connections may take: half, or all but KEPT where that is more."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ENOUGH if soft == resource.RLIM_INFINITY else max(soft - KEPT, soft // 2)


class Reserve:
    """Descriptors that are held for when there are no others: closed then, they can be used for what must be done."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def fill(self) -> bool:
        """Hold them, where there are enough and some more; whether that is so."""
        if enough := may_open(RESERVED - len(self._held) + SPARE):
            self._held += [one for _ in range(RESERVED - len(self._held)) if (one := _opened()) is not None]
        return enough

    def release(self) -> None:
        """Let them be used."""
        while self._held:
            os.close(self._held.pop())


def may_open(count: int = 1) -> bool:
    """Whether so many can be had just now."""
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
