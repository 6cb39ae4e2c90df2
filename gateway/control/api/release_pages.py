"""The pages of all releases (JSON and Prometheus): data is collected on control's loop in slices and rendered
elsewhere.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from gateway.control.api.page_process import Documents, Metrics, Printer
from gateway.control.control_plane import ControlPlane
from gateway.control.release.release_status import ReleaseStatus
from gateway.control.status import gathered, observe
from gateway.system.scheduling import set_realtime_helper


@dataclass(frozen=True, slots=True)
class Released:
    """Each release's JSON document, by model, and all of them as a JSON array."""

    documents: Mapping[str, bytes]
    text: bytes


NONE: Final = Released({}, b"[]")
T = TypeVar("T")
_PAGES: Final = ThreadPoolExecutor(1, "pages", initializer=set_realtime_helper)


async def beside(make: Callable[..., T], *given: object) -> T:
    """The result of `make(*given)`, called in the one thread that waits for the rendering process and renders small
    pages.
    """
    return await asyncio.get_running_loop().run_in_executor(_PAGES, make, *given)


async def released(control: ControlPlane, printer: Printer) -> Released:
    """The documents of all releases as they are now. Raises NotReady."""
    seen = await gathered(control)
    return await beside(_printed, printer, seen.releases)


def _printed(printer: Printer, releases: Sequence[ReleaseStatus]) -> Released:
    documents: Mapping[str, bytes] = printer.printed(Documents(), releases)
    return Released(documents, array_of(documents.values()))


async def metrics(control: ControlPlane, printer: Printer) -> bytes:
    """The metrics in Prometheus text format. Raises NotReady."""
    seen = await gathered(control, versions=True)
    text: bytes = await beside(lambda: printer.printed(Metrics(observe(control)), [*seen.releases, *seen.versions]))
    return text


def array_of(documents: Iterable[bytes]) -> bytes:
    """A JSON array of already encoded documents."""
    return b"[" + b",".join(documents) + b"]"
