"""How many file descriptors this process may have, and how many of them connections may take."""

import contextlib
import resource
from typing import Final

ENOUGH: Final = 1 << 20  # more are never needed, and some systems allow a thousand times as many
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
