"""Checks whether the rows of a batch are independent: that the first dimension is free does not prove it.

At one batch size, a row's result must not depend on the other rows, whatever these are. It must be equal to the bit;
within 1e-6 if runs on the CPU do not repeat to the bit; or, on devices whose kernels add in any order, within a
multiple of the difference between two equal runs. A row that runs alone may then differ from the same row in a batch
only by rounding, since another size may use another algorithm.

Labels and counts can agree by chance. If an output is of that kind, the floats inside the model from which it is
computed are compared instead.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from onnxruntime import RunOptions

from gateway.backends import batch_variants
from gateway.backends.batch_variants import join_rows, replace_others, scaled, variants
from gateway.backends.label_scores import InnerFloats
from gateway.backends.onnx import OnnxSession, Result
from gateway.backends.onnx_file import read_onnx_file
from gateway.backends.row_comparison import RowComparison, is_coarse
from gateway.backends.signature import Feeds
from gateway.errors import InvalidOutput, RequestError

MIN_BATCH: Final = 3  # rows in the smallest batch
ODD_BATCH: Final = 7
ROWS_DEPENDENT: Final = "rows run together differ from the same rows run apart"
QUANTISED_DYNAMICALLY: Final = ROWS_DEPENDENT + ": it is quantised dynamically, by the range of all values of a batch"
DYNAMIC_OPERATORS: Final = frozenset(
    ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "DynamicQuantizeGemm")
)
CPU_ROUNDING: Final = 1e-5
DEVICE_ROUNDING: Final = 1e-2
RUN_TOLERANCE: Final = 1e-6
DEVICE_TOLERANCES: Final = (1e-5, 1e-4, 1e-3)  # what equal runs on a device may differ by, tried in turn
DEVICE_TOLERANCE_FACTOR: Final = 10  # two runs do not show the most that they can differ by
SERIES_S: Final = 1.0  # for a series of batches, once the first MIN_COMPARED have been compared
MIN_COMPARED: Final = 6
MIN_COMPARED_LONG: Final = 2  # of runs that take LONG_RUN_S
LONG_RUN_S: Final = 0.1
TIMEOUT_S: Final = 2.0  # and as long as TIMEOUT_RUNS runs: then what still runs is ended
TIMEOUT_RUNS: Final = 30
RUN_TIMED_OUT: Final = "a row may keep the others waiting: a run on other values than the warm-up's did not end in time"


class RowIndependenceCheck:
    """The check of one loaded model with `rows` that run on it, for batches of up to `size` rows.

    `synthetic`: the rows are made up, since there is no warmup.json. `dependence_reason`: empty if the rows are
    independent. `rounding`: the largest difference between a row alone and in a batch, relative to the largest value of
    the output.
    """

    def __init__(self, session: OnnxSession, rows: list[Feeds], size: int, *, synthetic: bool) -> None:
        self._session = session
        self._sizes = sorted({MIN_BATCH, min(max(size, MIN_BATCH), ODD_BATCH), max(size, MIN_BATCH)})
        self._rows = rows
        self._synthetic = synthetic
        self.rounding = 0.0
        self.dependence_reason = self._check()

    def _check(self) -> str:
        by_range = read_onnx_file(self._session.file).operators & DYNAMIC_OPERATORS
        found = self._find_dependence(RowComparison(self._outputs, [0] * len(self._session.signature.outputs)))
        if found:
            return QUANTISED_DYNAMICALLY if by_range else found
        results = self._session.run(join_rows(self._rows, MIN_BATCH))
        coarse = [index for index, result in enumerate(results) if is_coarse(result)]
        if not coarse:
            return ""
        if by_range:
            return QUANTISED_DYNAMICALLY
        inside = InnerFloats(
            self._session, coarse, (join_rows(self._rows, MIN_BATCH), join_rows(self._rows, ODD_BATCH))
        )
        return (self._find_dependence(inside.comparison) if inside.comparison else "") or inside.hidden_reason

    def _outputs(self, feeds: Feeds, options: RunOptions | None) -> list[Result]:
        """Run the session. Raises InvalidOutput for another number of rows, which the batcher cannot split."""
        results = self._session.run(feeds, options)
        rows = (len(next(iter(feeds.values()))),)
        if any(result is None or result.shape[:1] != rows for result in results):
            raise InvalidOutput("an output does not have the rows of the inputs")
        return results

    def _find_dependence(self, witness: RowComparison) -> str:
        return next(filter(None, (self._find_dependence_at(witness, size) for size in self._sizes)), "")

    def _find_dependence_at(self, witness: RowComparison, size: int) -> str:
        """Why rows are not independent in batches of `size`; empty if they are."""
        batch = join_rows(self._rows, size)
        try:
            started = time.perf_counter()
            together = witness.run(batch, None)
            run_s = time.perf_counter() - started
            alone = [witness.run(row, None) for row in self._rows[: min(MIN_BATCH, size)]]
        except RequestError:
            return ROWS_DEPENDENT
        if not self._measure_rounding(witness, size, alone, together):
            return ROWS_DEPENDENT
        factors = (
            (batch_variants.SMALL_FACTOR, batch_variants.LARGE_FACTOR) if size == self._sizes[-1] else ()
        )  # once is enough
        with _RunBudget(run_s) as budget:
            unmoved = self._rows_unaffected(witness, batch, budget) and all(
                budget.exhausted or self._rows_unaffected(witness, scaled(batch, factor), budget) for factor in factors
            )
        if budget.timed_out:
            return RUN_TIMED_OUT
        return "" if unmoved and budget.compared else ROWS_DEPENDENT

    def _measure_rounding(
        self, witness: RowComparison, size: int, alone: Sequence[Sequence[Result]], together: Sequence[Result]
    ) -> bool:
        most = CPU_ROUNDING if self._session.on_cpu() else DEVICE_ROUNDING
        differences = [witness.rounding(row, size, one, together, most) for row, one in enumerate(alone)]
        self.rounding = max(self.rounding, *differences)
        return bool(np.isfinite(self.rounding))

    def _rows_unaffected(self, witness: RowComparison, batch: Feeds, budget: "_RunBudget") -> bool:
        """Whether the rows at even positions, then at odd ones, are unaffected by changes of the others."""
        every = np.ones(len(next(iter(batch.values()))), bool)
        even = np.arange(len(every)) % 2 == 0
        reference, again = (budget.run(witness, batch) for _ in range(2))
        if reference is None or again is None:
            return True  # some variants of the rows do not run on every model
        tolerance = self._tolerance(lambda bound: witness.rows_agree(reference, again, every, bound))
        if tolerance is None:
            return False
        for others in variants(batch, synthetic=self._synthetic):
            for kept in (even, ~even):
                if budget.exhausted:
                    return True
                result = budget.run(witness, replace_others(batch, kept, others))
                if result is None:
                    continue
                budget.compared += 1
                if not witness.rows_agree(reference, result, kept, tolerance):
                    return False
        return True

    def _tolerance(self, is_within: Callable[[float], bool]) -> float | None:
        """The difference allowed when other rows change, from two equal runs; None if these differ too much."""
        on_cpu = self._session.on_cpu()
        bounds = (0.0, RUN_TOLERANCE) if on_cpu else (RUN_TOLERANCE, *DEVICE_TOLERANCES)
        bound = next(filter(is_within, bounds), None)
        return bound if bound is None or bound <= RUN_TOLERANCE else bound * DEVICE_TOLERANCE_FACTOR


class _RunBudget:
    """The time limits of a series of runs. A run that hangs, such as a loop whose count is an input value, is ended."""

    def __init__(self, run_s: float) -> None:
        self.compared = 0
        self.timed_out = False
        self._options = RunOptions()
        self._min_compared = MIN_COMPARED if run_s < LONG_RUN_S else MIN_COMPARED_LONG
        self._end_s = time.perf_counter() + SERIES_S
        self._timer = threading.Timer(TIMEOUT_S + TIMEOUT_RUNS * run_s, self._terminate)
        self._timer.daemon = True

    def __enter__(self) -> "_RunBudget":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def exhausted(self) -> bool:
        """Whether enough runs have been compared, or a run has timed out."""
        return self.timed_out or (self.compared >= self._min_compared and time.perf_counter() > self._end_s)

    def run(self, witness: RowComparison, batch: Feeds) -> Sequence[Result] | None:
        """The arrays of the run; None if the batch does not run."""
        try:
            return witness.run(batch, self._options)
        except RequestError:
            self.timed_out = self._options.terminate
            return None

    def _terminate(self) -> None:
        self._options.terminate = True
