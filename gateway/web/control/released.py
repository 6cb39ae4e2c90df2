"""Every release's document as JSON, made in a thread and for all who read: a thousand take a quarter of a second."""

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import orjson

from gateway.control import Control
from gateway.observing import Gathered, gathered
from gateway.priority import go_ahead
from gateway.web.control.documented import release_document

SWITCH_S: Final = 0.0002  # how long the thread keeps the interpreter from control's loop
Released = Mapping[str, bytes]  # by model
T = TypeVar("T")
_PAGES: Final = ThreadPoolExecutor(1, "pages", initializer=go_ahead)


async def beside(make: Callable[..., T], *given: object) -> T:
    """What `make` gives, in the one thread that makes pages."""
    sys.setswitchinterval(SWITCH_S)
    return await asyncio.get_running_loop().run_in_executor(_PAGES, make, *given)


async def released(control: Control) -> Released:
    """The releases as they are now."""
    return await beside(_documents, await gathered(control))


def array_of(documents: Iterable[bytes]) -> bytes:
    """A JSON array."""
    return b"[" + b",".join(documents) + b"]"


def _documents(seen: Gathered) -> Released:
    return {release.model: orjson.dumps(release_document(release)) for release in seen.releases}
