"""The pages of all releases (JSON and Prometheus): data is collected on control's loop in slices and rendered
elsewhere.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from gateway.control.api.page_renderer import PageRenderer, RenderMetrics, RenderReleases
from gateway.control.class_names import ClassNames
from gateway.control.control_plane import ControlPlane
from gateway.control.release.release_status import ReleaseStatus
from gateway.control.status import collect_status, gateway_metrics
from gateway.system.scheduling import set_realtime_helper


@dataclass(frozen=True, slots=True)
class ReleasePages:
    """Each release's JSON document, by model, and all of them as a JSON array."""

    documents: Mapping[str, bytes]
    text: bytes


NO_RELEASES: Final = ReleasePages({}, b"[]")
T = TypeVar("T")
_PAGE_THREAD: Final = ThreadPoolExecutor(1, "pages", initializer=set_realtime_helper)


async def in_page_thread(make: Callable[..., T], *given: object) -> T:
    """The result of `make(*given)`, called in the one thread that waits for the rendering process and renders small
    pages.
    """
    return await asyncio.get_running_loop().run_in_executor(_PAGE_THREAD, make, *given)


async def release_pages(control: ControlPlane, printer: PageRenderer) -> ReleasePages:
    """The documents of all releases as they are now. Raises NotReady."""
    seen = await collect_status(control)
    return await in_page_thread(_render, printer, seen.releases, control.class_names.known)


def _render(printer: PageRenderer, releases: Sequence[ReleaseStatus], names: ClassNames) -> ReleasePages:
    documents: Mapping[str, bytes] = printer.render(RenderReleases(), releases, names)
    return ReleasePages(documents, array_of(documents.values()))


async def metrics_text(control: ControlPlane, printer: PageRenderer) -> bytes:
    """The metrics in Prometheus text format. Raises NotReady."""
    seen = await collect_status(control, versions=True)
    names = control.class_names.known
    text: bytes = await in_page_thread(
        lambda: printer.render(RenderMetrics(gateway_metrics(control)), [*seen.releases, *seen.versions], names)
    )
    return text


def array_of(documents: Iterable[bytes]) -> bytes:
    """A JSON array of already encoded documents."""
    return b"[" + b",".join(documents) + b"]"
