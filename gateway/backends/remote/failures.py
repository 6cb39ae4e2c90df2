"""What a call to another server fails with."""

import logging
from typing import Final

from gateway.backends.remote.connection import Broken, Response
from gateway.backends.remote.server import words_of
from gateway.errors import (
    InvalidOutput,
    InvalidRequest,
    ModelFailed,
    NoMemory,
    Overloaded,
    ProcessCrashed,
    ProcessLost,
    RequestError,
)

REFUSED: Final = frozenset((400, 413, 415, 422))  # statuses that say that the request itself is wrong
BUSY: Final = frozenset((429, 503))
AWAY: Final = frozenset((502, 503, 504))  # statuses that say that the server, not the request, is the cause
log: Final = logging.getLogger("gateway.backends")


def error_of(response: Response) -> RequestError:
    """The error that a response other than 200 stands for."""
    status, words = response.status, words_of(response)
    if status in REFUSED:
        return InvalidRequest(words or f"the model's server refuses the request with {status}")
    text = f"the model's server answered with {status}{f': {words}' if words else ''}"
    if status in BUSY:
        return Overloaded(text)
    return NoMemory(text) if status == 507 else ModelFailed(text)


def unreachable(why: str) -> ProcessLost:
    """The error of a call that could not be sent."""
    return ProcessLost(f"{why}; try again later")


def unreadable(error: Exception, url: str) -> InvalidOutput:
    """The error of an answer that fails to be read in a way that was not foreseen."""
    log.error("the answer of %s cannot be read", url, exc_info=error)
    return InvalidOutput(f"the answer of the model's server cannot be read: {type(error).__name__}")


def broken_error(broken: Broken) -> RequestError:
    """An old connection that ends may have been closed for being idle; a new one that ends was closed for the call."""
    if broken.stale:
        return ProcessCrashed(f"the model's server: {broken}")
    return ModelFailed(f"the model's server: {broken}")
