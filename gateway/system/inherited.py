"""What a process inherits from its starter and cannot work with: missing descriptors, blocked and ignored signals, and
the first place in a container.
"""

import os
import signal
from typing import Final

FIRST_PROCESS: Final = 1  # of a container; the system drops signals to it that it has no handler for
NEEDED: Final = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGXCPU))


def repair_inherited() -> None:
    """Call once, before the process opens a file or starts a thread; what it starts inherits the result."""
    _fill_standard_descriptors()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NEEDED)  # else nothing ends the process, and no timeout a child
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # the system would not tell how a process has ended
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if os.getpid() == FIRST_PROCESS:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))  # until the command has its own


def _fill_standard_descriptors() -> None:
    """Open the null device as each of descriptors 0 to 2 that is closed: another file would take its number, libraries
    would write their messages into it, and libuv refuses to close it.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)
