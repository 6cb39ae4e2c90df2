"""Calls that may hang, on a disk or a terminal, and that must not keep a process alive."""

import logging
import threading
from collections.abc import Callable
from typing import Final

log: Final = logging.getLogger("gateway.system")


def run_bounded(act: Callable[[], None], timeout_s: float) -> bool:
    """Call `act` in a daemon thread and wait at most `timeout_s` seconds; return whether it has ended.

    If no thread can be started, `act` is called in this one. An exception of `act` is logged, and is an end like any
    other: the caller goes on.
    """
    name = getattr(act, "__name__", "bounded call")

    def logged() -> None:
        try:
            act()
        except Exception:
            log.exception("%s has failed", name)

    thread = threading.Thread(target=logged, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread available
        logged()
        return True
    thread.join(timeout_s)
    return not thread.is_alive()
