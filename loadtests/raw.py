"""What a session does without a gateway: rows a second of plain runs, and of the ways in which the gateway runs it."""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import onnxruntime

from gateway.backends.bucketed import BucketedRunner, row_kinds
from gateway.backends.onnx import OnnxSession
from gateway.backends.page_locked import PageLocked, cuda_runtime

SIZES: Final = (1, 8, 32, 64)
ROWS: Final = 32
AT_ONCE: Final = 2
WARM_RUNS: Final = 3


def rows_per_s(run: Callable[[], object], rows: int, seconds: float, at_once: int = 1) -> float:
    """Of runs of `rows` rows each, in `at_once` threads, after some to warm up."""
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(lambda _: [run() for _ in range(WARM_RUNS)], range(at_once)))
        begun = time.perf_counter()
        counts = list(threads.map(lambda _: _repeated(run, begun + seconds), range(at_once)))
        return sum(counts) * rows / (time.perf_counter() - begun)


def _repeated(run: Callable[[], object], end: float) -> int:
    count = 0
    while time.perf_counter() < end:
        run()
        count += 1
    return count


def plain(session: OnnxSession, images: Any, rows: int) -> Callable[[], object]:
    """A run of `rows` images in ordinary memory."""
    batch = _batch(images, rows)
    return lambda: session.run({"x": batch})


def figures(session: OnnxSession, images: Any, seconds: float) -> dict[str, float]:
    """Images a second by what was run; each for `seconds`."""
    found = {f"session.run, {rows} rows": rows_per_s(plain(session, images, rows), rows, seconds) for rows in SIZES}
    many = f"{AT_ONCE} at once, {ROWS} rows, "
    found[f"{many}session.run"] = rows_per_s(plain(session, images, ROWS), ROWS, seconds, AT_ONCE)
    device = session.cuda_device()
    kinds = row_kinds(session)
    assert kinds is not None
    for way, made in (("page-locked memory", _locked), ("I/O binding", _bound)):
        with contextlib.suppress(Exception):  # for comparison only
            if device is not None:
                found[many + way] = rows_per_s(made(session, images, device), ROWS, seconds, AT_ONCE)
    allocate: Any = np.empty if device is None else PageLocked(device, cuda_runtime())
    runner = BucketedRunner({ROWS: session}, kinds, AT_ONCE, allocate)
    for at_once in (1, AT_ONCE):
        run = _gathered(runner, images)
        found[f"{at_once} at once, {ROWS} requests gathered"] = rows_per_s(run, ROWS, seconds, at_once)
    return found


def page_locked(session: OnnxSession) -> str:
    """Whether memory can be page-locked for the device that the session runs on; else why not."""
    device = session.cuda_device()
    if device is None:
        return "no: it runs on the CPU"
    allocate = PageLocked(device, cuda_runtime())
    allocate((1,), np.dtype(np.uint8))
    return "yes" if allocate.locked else f"no: {allocate.reason}"


def _batch(images: Any, rows: int = ROWS) -> Any:
    return np.concatenate([images] * (rows // len(images) + 1))[:rows].copy()


def _locked(session: OnnxSession, images: Any, device: int) -> Callable[[], object]:
    batch = PageLocked(device, cuda_runtime())((ROWS, *images.shape[1:]), images.dtype)
    batch[:] = _batch(images)
    return lambda: session.run({"x": batch})


def _bound(session: OnnxSession, images: Any, device: int) -> Callable[[], object]:
    """The input in memory of the device, written to before each run: what the gateway does not do."""
    inner, batch, own = session._session, _batch(images), threading.local()

    def run() -> object:
        if not hasattr(own, "binding"):
            own.x = onnxruntime.OrtValue.ortvalue_from_numpy(batch, "cuda", device)
            own.binding = inner.io_binding()
            own.binding.bind_ortvalue_input("x", own.x)
            own.binding.bind_output("y")
        own.x.update_inplace(batch)
        inner.run_with_iobinding(own.binding)
        return own.binding.copy_outputs_to_cpu()

    return run


def _gathered(runner: BucketedRunner, images: Any) -> Callable[[], object]:
    parts = [{"x": images[index % len(images)][None]} for index in range(ROWS)]

    def run() -> object:
        with runner.join(parts) as feeds:
            return runner.run(feeds)

    return run
