"""Warms up a loaded session: runs it, checks whether its rows are independent, and measures which batch size pays.

A free first dimension does not prove independence: a model that subtracts the batch's mean declares the same shapes as
one that does not. A model is batched only if its rows are found to be independent.

Not every batch pays. Joining rows copies them, and a run of many rows may miss caches that hold a few: images of half a
megabyte are served faster one by one. So larger batches are tried as long as they serve rows faster; requests beyond
the best size wait for the next batch.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from gateway.backends.batch_variants import join_rows
from gateway.backends.onnx import OnnxSession
from gateway.backends.output_shapes import ObservedRun
from gateway.backends.row_independence import ROWS_DEPENDENT, RowIndependenceCheck
from gateway.backends.signature import Feeds
from gateway.errors import ModelUnavailable, RequestError
from gateway.protocol.decode import decode_request
from gateway.protocol.tensors import DATATYPES, Array

PROOF_ROWS: Final = 3
FREE_SIZES: Final = (4, 1, 16, 64, 224)  # tried in turn for free dimensions other than the first
MAX_ELEMENTS: Final = 10_000_000  # in one made-up input
WORDS: Final = ("invoice", "late", "parcel", "password", "a", "12.5", "refund please", "")
SHORT_BYTES: Final = 2
TIMED_RUNS: Final = 30
TIMED_SECONDS: Final = 0.2
DEVICE_PREPARE_RUNS: Final = 3  # on a device, where the second run may prepare more
ON_LOOP_SINGLE_US: Final = 200.0
ON_LOOP_FULL_US: Final = 1000.0
LOOP_OVERHEAD_US: Final = 20.0  # about what a batch costs in addition to its run
THREAD_OVERHEAD_US: Final = 400.0  # of a run in a thread: on a busy core, both it and the loop lose their caches
NEAR_BEST: Final = 1.02  # the smallest batch is chosen whose rows take at most this multiple of the best
STOP_RATIO: Final = 1.1  # of the best time per row; from there on larger batches are not tried
MAX_RUN_US: Final = 1e6  # nor if a run takes this long
_TIMES: Final = ("single_us", "full_us", "rounding")
Filler = Callable[[str, list[int], np.random.Generator], Array]


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The result of a warm-up. `single_us` and `full_us`: the run times of one row and of a full batch; NaN if unknown.

    `unbatchable_reason`: why the model cannot be batched; empty if it can. `rows`: the batch size beyond which larger
    batches do not pay; 1 if none does. `row`: inputs of one row that it runs. `rounding`: the largest difference
    between a row alone and in a batch, relative to the largest value.
    """

    unbatchable_reason: str
    single_us: float
    full_us: float
    rows: int = 1
    row: Feeds = field(default_factory=dict, repr=False, compare=False)
    rounding: float = 0.0

    @property
    def fits_event_loop(self) -> bool:
        """Whether runs are short enough for the event loop."""
        return self.single_us < ON_LOOP_SINGLE_US and self.full_us < ON_LOOP_FULL_US

    def dump(self) -> dict[str, Any]:
        """All fields except `row` as JSON values; NaN becomes null."""
        return {name: getattr(self, name) for name in ("unbatchable_reason", "rows", *_TIMES)}

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> "WarmUp":
        """Read what `dump` returned. Raises KeyError, TypeError or ValueError if it has another form."""
        single_us, full_us, rounding = (math.nan if found[name] is None else float(found[name]) for name in _TIMES)
        return cls(found["unbatchable_reason"], single_us, full_us, int(found["rows"]), rounding=rounding)


def warm_up(session: OnnxSession, sample: Path, max_rows: int, known: WarmUp | None = None) -> WarmUp:
    """Warm up `session` with the V2 request in the file `sample` if it exists, else with made-up inputs.

    `max_rows`: the largest batch wanted; 1: none. `known`: results of an earlier warm-up of the same content, which are
    not measured again. Raises ModelUnavailable if `sample` does not run.
    """
    rows = _sample_rows(session, sample) if sample.exists() else _synthetic_rows(session)
    if rows is None:
        return WarmUp("made-up inputs do not run on it: put a V2 request that does in warmup.json", np.nan, np.nan)
    single = rows[0]
    session.learn_labels(single)
    session.learn_shapes(_runs(session, rows))
    if known is not None:
        return replace(known, row=single)
    single_us = _run_us(lambda: session.run(single))
    obstacle = "batching is off" if max_rows < 2 else _unbatchable_reason(session, rows)
    if obstacle:
        return WarmUp(obstacle, single_us, single_us, row=single)
    try:  # measured before the check, which leaves memory in caches and so makes the first large batches cheap
        size, full_us = best_batch_size(single_us, max_rows, lambda size: _batch_us(session, rows, size))
    except RequestError:
        return WarmUp(ROWS_DEPENDENT, single_us, single_us, row=single)
    proof = RowIndependenceCheck(session, rows, size, synthetic=not sample.exists())
    if proof.dependence_reason:
        return WarmUp(proof.dependence_reason, single_us, single_us, row=single)
    return WarmUp("", single_us, full_us, size, single, proof.rounding)


def _runs(session: OnnxSession, rows: list[Feeds]) -> list[ObservedRun]:
    """Runs of each row alone, and of all together if that works; they show the real shapes of the outputs."""
    runs = []
    batches = [join_rows(rows, PROOF_ROWS)] if _leading_dimension_is_free(session) and _rows_agree(session) else []
    for feeds in (*rows[:PROOF_ROWS], *batches):
        with contextlib.suppress(RequestError):
            runs.append(ObservedRun(len(next(iter(feeds.values()), ())) if batches else 1, session.run(feeds)))
    return runs


def best_batch_size(single_us: float, max_rows: int, run_us: Callable[[int], float]) -> tuple[int, float]:
    """The smallest batch size, at most `max_rows`, that serves rows about as fast as any, and its run time (us).

    `single_us`: the run time of one row. `run_us`: the time to join and run so many rows.
    """
    each_us = LOOP_OVERHEAD_US if single_us < ON_LOOP_SINGLE_US else THREAD_OVERHEAD_US
    runs_us = {1: single_us}
    size, best_us = 1, single_us + each_us  # per row
    while size < max_rows and runs_us[size] < MAX_RUN_US:
        size = min(2 * size, max_rows)
        runs_us[size] = run_us(size)
        row_us = (runs_us[size] + each_us) / size
        if row_us > STOP_RATIO * best_us:
            break
        best_us = min(best_us, row_us)
    return min((size, us) for size, us in runs_us.items() if (us + each_us) / size <= NEAR_BEST * best_us)


def _sample_rows(session: OnnxSession, sample: Path) -> list[Feeds]:
    try:
        feeds = session.signature.bind(decode_request(sample.read_bytes()))
        session.run(feeds)
    except RequestError as error:
        raise ModelUnavailable(f"{sample}: {error}") from None
    feeds = {name: array for name, array in feeds.items() if name not in session.signature.initializers}
    if not _leading_dimension_is_free(session):
        return [feeds]
    count = min(array.shape[0] for array in feeds.values())
    return [{name: array[row : row + 1] for name, array in feeds.items()} for row in range(count)] or [feeds]


def _synthetic_rows(session: OnnxSession) -> list[Feeds] | None:
    for size, filler in itertools.product(FREE_SIZES, (_full_range, _random, _zeros)):
        if max(map(math.prod, _synthetic_shapes(session, size).values()), default=0) > MAX_ELEMENTS:
            continue
        rows = [_feeds(session, size, filler, np.random.default_rng(row)) for row in range(PROOF_ROWS)]
        try:
            for row in rows:
                session.run(row)
        except RequestError:
            continue
        return rows
    return None


def _feeds(session: OnnxSession, free: int, filler: Filler, generator: np.random.Generator) -> Feeds:
    datatypes = {spec.name: spec.datatype for spec in session.signature.inputs}
    shapes = _synthetic_shapes(session, free)
    return {name: filler(datatypes[name], shape, generator) for name, shape in shapes.items()}


def _synthetic_shapes(session: OnnxSession, free: int) -> dict[str, list[int]]:
    """The shape of one row of each input; free dimensions other than the first get the size `free`."""
    leading = {shape[0] for shape in session.dimensions.values() if shape}
    return {
        name: [_size(size, index, leading, free) for index, size in enumerate(shape)]
        for name, shape in session.dimensions.items()
    }


def _size(size: int | str | None, index: int, leading: set[int | str | None], free: int) -> int:
    if isinstance(size, int):
        return size
    is_rows = index == 0 or (size is not None and size in leading)
    return 1 if is_rows else free


def _full_range(datatype: str, shape: list[int], generator: np.random.Generator) -> Array:
    """As `_random`, but short integers take all their values, as pixels and audio samples do.

    Longer integers are usually indices: of words, or of rows in a table.
    """
    dtype = DATATYPES[datatype].dtype
    if dtype.kind not in "iu" or dtype.itemsize > SHORT_BYTES:
        return _random(datatype, shape, generator)
    bounds = np.iinfo(dtype)
    return generator.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)


def _random(datatype: str, shape: list[int], generator: np.random.Generator) -> Array:
    if datatype == "BYTES":
        return generator.choice(np.array(WORDS, object), shape)
    if datatype.startswith("FP"):
        return np.asarray(generator.standard_normal(shape), DATATYPES[datatype].dtype)
    return np.asarray(generator.integers(0, 2, shape), DATATYPES[datatype].dtype)


def _zeros(datatype: str, shape: list[int], generator: np.random.Generator) -> Array:
    return np.full(shape, "", object) if datatype == "BYTES" else np.zeros(shape, DATATYPES[datatype].dtype)


def _leading_dimension_is_free(session: OnnxSession) -> bool:
    shapes = session.dimensions.values()
    return bool(shapes) and all(shape and not isinstance(shape[0], int) for shape in shapes)


def _rows_agree(session: OnnxSession) -> bool:
    return len({shape[0] for shape in session.dimensions.values() if shape[0]}) < 2


def _unbatchable_reason(session: OnnxSession, rows: list[Feeds]) -> str:
    """Why a batch could not be split into its rows again, or checked; empty if it can."""
    if not session.all_required:
        return "an input or output is optional"
    if not _leading_dimension_is_free(session):
        return "an input has no free first dimension"
    if not _rows_agree(session):
        return "the first dimensions of its inputs differ"
    if any(not spec.shape or spec.shape[0] != -1 for spec in session.signature.outputs):
        return "an output has no free first dimension"
    if len(rows) < 2:
        return "warmup.json has one row: give it two different ones"
    if all(_alike(row, rows[0]) for row in rows[1:]):
        return "the warm-up rows are all alike, which proves nothing: put two different ones in warmup.json"
    return ""


def _alike(row: Feeds, other: Feeds) -> bool:
    """Whether two rows are equal. NaN equals NaN: rows of NaN prove nothing either."""
    return all(np.array_equal(array, other[name], equal_nan=array.dtype.kind == "f") for name, array in row.items())


def _batch_us(session: OnnxSession, rows: list[Feeds], size: int) -> float:
    """The run time of a batch; infinity if it fails although three rows run, usually for lack of device memory."""
    try:
        for _ in range(1 if session.on_cpu() else DEVICE_PREPARE_RUNS):  # the first run of a size prepares for it
            session.run(join_rows(rows, size))
        return _run_us(lambda: session.run(join_rows(rows, size)))
    except RequestError:
        if size <= PROOF_ROWS:
            raise
        return math.inf


def _run_us(run: Callable[[], object]) -> float:
    """The time (us) of the fastest of some runs: in the others, other threads took time too."""
    end = time.perf_counter() + TIMED_SECONDS
    fastest = math.inf
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        run()
        stop = time.perf_counter()
        fastest = min(fastest, stop - start)
        if stop > end:
            break
    return fastest * 1e6
