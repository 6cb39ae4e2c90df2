"""Learns the real shapes of a model's outputs from runs, since nothing enforces what a file declares.

ONNX Runtime rejects inputs of another shape than declared, but only warns about outputs. Converters declare the label
of a batch as [1], or no shape at all.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.protocol.tensors import Array, TensorSpec

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ObservedRun:
    """The results of a run with `rows` rows."""

    rows: int
    results: Sequence[Array | None]


def observed_specs(specs: Sequence[TensorSpec], runs: Sequence[ObservedRun], *, fixed: bool) -> list[TensorSpec]:
    """The outputs with the shapes that the runs show. `fixed`: the inputs leave only the number of rows free.

    A shape that agrees with its declaration stays as declared; a dimension of -1 stays free.
    """
    return [_learned(spec, [(run.rows, run.results[index]) for run in runs], fixed) for index, spec in enumerate(specs)]


def _learned(spec: TensorSpec, runs: Sequence[tuple[int, Array | None]], fixed: bool) -> TensorSpec:
    seen = [(rows, result) for rows, result in runs if result is not None]
    ranks = {result.ndim for _, result in seen}
    if len(ranks) != 1 or all(_is_as_declared(spec.shape, result) for _, result in seen):
        return spec
    shape = _rows_first(seen, spec.shape, fixed) if ranks != {0} else ()
    return TensorSpec(spec.name, spec.datatype, shape, spec.optional, spec.labels)


def _is_as_declared(declared: Shape, result: Array) -> bool:
    return len(declared) == result.ndim and all(
        size in (-1, actual) for size, actual in zip(declared, result.shape, strict=True)
    )


def _rows_first(seen: Sequence[tuple[int, Array]], declared: Shape, fixed: bool) -> Shape:
    """A shape with free rows first. A dimension has a size only if it was the same in every run: sizes that depend on
    values, such as the number of detected boxes, stay free.
    """
    by_row = all(len(result) == rows for rows, result in seen) and len({rows for rows, _ in seen}) > 1
    sizes = [{result.shape[axis] for _, result in seen} for axis in range(seen[0][1].ndim)]
    promised = declared if len(declared) == len(sizes) else (None,) * len(sizes)
    shape = []
    for axis, (found, size) in enumerate(itertools.zip_longest(sizes, promised)):
        same = len(found) == 1 and (found == {size} or (axis > 0 and fixed and by_row and 0 not in found))
        shape.append(next(iter(found)) if same and size != -1 else -1)
    return tuple(shape)
