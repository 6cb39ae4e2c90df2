"""Whether the rows of a batch are independent: a free first dimension is only a claim.

At one batch size, a row's result must not depend on the rows beside it, whatever these are: to the bit, or to 1e-6
where the same bits need not come twice, or to some times what two equal runs differ by, where a device's kernels add
in any order. Then a row alone may differ from the same row in a batch by rounding only, since another size may take
another algorithm.

Labels and counts agree by luck. Where an output is of that kind, what decides it is compared: the floats inside the
model from which it is computed.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from onnxruntime import RunOptions

from gateway.backends import batch_variants
from gateway.backends.batch_variants import beside, changed, joined, scaled
from gateway.backends.label_scores import Inside
from gateway.backends.onnx import OnnxSession, Result
from gateway.backends.onnx_file import read_onnx_file
from gateway.backends.row_comparison import Witness, is_coarse
from gateway.backends.signature import Feeds
from gateway.errors import InvalidOutput, RequestError

SMALL: Final = 3  # rows in the smallest batch
ODD: Final = 7
MIXED: Final = "rows run together differ from the same rows run apart"
DYNAMIC: Final = MIXED + ": it is quantised dynamically, by the range of all values of a batch"
BY_RANGE: Final = frozenset(
    ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "DynamicQuantizeGemm")
)
ROUNDING_CPU: Final = 1e-5
ROUNDING_ELSEWHERE: Final = 1e-2
NOT_REPEATED: Final = 1e-6
SHAKY: Final = (1e-5, 1e-4, 1e-3)  # what equal runs on a device may differ by, tried in turn
FURTHER: Final = 10  # two runs do not show the most that they can differ by
ENOUGH_S: Final = 1.0  # for a series of batches, once the first LEAST have been compared
LEAST: Final = 6
LEAST_LONG: Final = 2  # of runs that take LONG_S
LONG_S: Final = 0.1
TOO_LONG_S: Final = 2.0  # and as long as MANY runs: then what still runs is ended
MANY: Final = 30
ENDLESS: Final = "a row may keep the others waiting: a run on other values than the warm-up's did not end in time"


class Proof:
    """The proof for one loaded model, on `rows` that run on it, for batches of up to `size` rows.

    `invented`: no one has said what it takes. `obstacle` is empty where the rows are independent; `rounding` is the
    largest difference between a row alone and in a batch, relative to the largest value of the output.
    """

    def __init__(self, session: OnnxSession, rows: list[Feeds], size: int, *, invented: bool) -> None:
        self._session = session
        self._sizes = sorted({SMALL, min(max(size, SMALL), ODD), max(size, SMALL)})
        self._rows = rows
        self._invented = invented
        self.rounding = 0.0
        self.obstacle = self._found()

    def _found(self) -> str:
        by_range = read_onnx_file(self._session.file).operators & BY_RANGE
        found = self._against(Witness(self._outputs, [0] * len(self._session.signature.outputs)))
        if found:
            return DYNAMIC if by_range else found
        results = self._session.run(joined(self._rows, SMALL))
        coarse = [index for index, result in enumerate(results) if is_coarse(result)]
        if not coarse:
            return ""
        if by_range:
            return DYNAMIC
        inside = Inside(self._session, coarse, (joined(self._rows, SMALL), joined(self._rows, ODD)))
        return (self._against(inside.witness) if inside.witness else "") or inside.hidden

    def _outputs(self, feeds: Feeds, options: RunOptions | None) -> list[Result]:
        """Another number of rows is a failure, as it is for the batcher, which then runs each request alone."""
        results = self._session.run(feeds, options)
        rows = (len(next(iter(feeds.values()))),)
        if any(result is None or result.shape[:1] != rows for result in results):
            raise InvalidOutput("an output does not have the rows of the inputs")
        return results

    def _against(self, witness: Witness) -> str:
        return next(filter(None, (self._against_batches(witness, size) for size in self._sizes)), "")

    def _against_batches(self, witness: Witness, size: int) -> str:
        """What speaks against batches of this size."""
        batch = joined(self._rows, size)
        try:
            started = time.perf_counter()
            together = witness.run(batch, None)
            run_s = time.perf_counter() - started
            alone = [witness.run(row, None) for row in self._rows[: min(SMALL, size)]]
        except RequestError:
            return MIXED
        if not self._rounds(witness, size, alone, together):
            return MIXED
        factors = (
            (batch_variants.SMALL, batch_variants.LARGE) if size == self._sizes[-1] else ()
        )  # of what is kept: once will do
        with _Patience(run_s) as patience:
            unmoved = self._unmoved(witness, batch, patience) and all(
                patience.over or self._unmoved(witness, scaled(batch, factor), patience) for factor in factors
            )
        if patience.cut_short:
            return ENDLESS
        return "" if unmoved and patience.compared else MIXED

    def _rounds(
        self, witness: Witness, size: int, alone: Sequence[Sequence[Result]], together: Sequence[Result]
    ) -> bool:
        most = ROUNDING_CPU if self._session.on_cpu() else ROUNDING_ELSEWHERE
        differences = [witness.rounding(row, size, one, together, most) for row, one in enumerate(alone)]
        self.rounding = max(self.rounding, *differences)
        return bool(np.isfinite(self.rounding))

    def _unmoved(self, witness: Witness, batch: Feeds, patience: "_Patience") -> bool:
        """Whether the rows at even places, and then those at odd ones, stay as they are whatever the others are."""
        every = np.ones(len(next(iter(batch.values()))), bool)
        even = np.arange(len(every)) % 2 == 0
        reference, again = (patience.run(witness, batch) for _ in range(2))
        if reference is None or again is None:
            return True  # not all that can be made of the rows runs on every model
        tolerance = self._tolerance(lambda bound: witness.agree(reference, again, every, bound))
        if tolerance is None:
            return False
        for others in changed(batch, invented=self._invented):
            for kept in (even, ~even):
                if patience.over:
                    return True
                result = patience.run(witness, beside(batch, kept, others))
                if result is None:
                    continue
                patience.compared += 1
                if not witness.agree(reference, result, kept, tolerance):
                    return False
        return True

    def _tolerance(self, is_within: Callable[[float], bool]) -> float | None:
        """By how much rows may move beside others, where two equal runs are within some bound of each other."""
        on_cpu = self._session.on_cpu()
        bounds = (0.0, NOT_REPEATED) if on_cpu else (NOT_REPEATED, *SHAKY)
        bound = next(filter(is_within, bounds), None)
        return bound if bound is None or bound <= NOT_REPEATED else bound * FURTHER


class _Patience:
    """Time for a series of runs. One that hangs, as a loop does that is told to by a value, is ended."""

    def __init__(self, run_s: float) -> None:
        self.compared = 0
        self.cut_short = False
        self._options = RunOptions()
        self._least = LEAST if run_s < LONG_S else LEAST_LONG
        self._enough_s = time.perf_counter() + ENOUGH_S
        self._timer = threading.Timer(TOO_LONG_S + MANY * run_s, self._end)
        self._timer.daemon = True

    def __enter__(self) -> "_Patience":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def over(self) -> bool:
        """Whether enough has been compared, or none can be any more."""
        return self.cut_short or (self.compared >= self._least and time.perf_counter() > self._enough_s)

    def run(self, witness: Witness, batch: Feeds) -> Sequence[Result] | None:
        """None where the batch does not run."""
        try:
            return witness.run(batch, self._options)
        except RequestError:
            self.cut_short = self._options.terminate
            return None

    def _end(self) -> None:
        self._options.terminate = True
