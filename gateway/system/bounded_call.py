"""Calls that may hang, on a disk or a terminal, and that must not keep a process alive."""

import threading
from collections.abc import Callable


def run_bounded(act: Callable[[], None], timeout_s: float) -> bool:
    """Call `act` in a daemon thread and wait at most `timeout_s` seconds; return whether it has ended.

    If no thread can be started, `act` is called in this one.
    """
    thread = threading.Thread(target=act, name=getattr(act, "__name__", "bounded call"), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread available
        act()
        return True
    thread.join(timeout_s)
    return not thread.is_alive()
