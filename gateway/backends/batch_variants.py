"""Makes variants of a batch in which some rows stay the same and the others change."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from gateway.backends.signature import Feeds
from gateway.protocol.tensors import Array

SMALL_FACTOR, LARGE_FACTOR = 1e-3, 1e3  # factors
TEXT_REPEATS: Final = 20  # times, for strings
INTEGER_BOUNDS: Final = (256, 100, 10)  # of random integers, tried in turn: tables have a last index


def join_rows(rows: list[Feeds], count: int | None = None) -> Feeds:
    """The rows as one batch, of `count` rows if given: if there are fewer, they are repeated from the first."""
    chosen = rows if count is None else [rows[index % len(rows)] for index in range(count)]
    return {name: np.concatenate([row[name] for row in chosen]) for name in chosen[0]}


def scaled(batch: Feeds, factor: float) -> Feeds:
    """The batch with floats times `factor`, strings long or empty, and integers, which may be indices, permuted."""
    return {name: _scaled(array, factor) for name, array in batch.items()}


def replace_others(batch: Feeds, kept: Array, others: Feeds) -> Feeds:
    """The `kept` rows of `batch`, and the other rows from `others`."""
    mixed = {name: array.copy() for name, array in others.items()}
    for name, array in mixed.items():
        array[kept] = batch[name][kept]
    return mixed


def variants(batch: Feeds, *, synthetic: bool) -> Iterator[Feeds]:
    """Yield the batch with every row changed, in one way after another; not all variants run on every model.

    `synthetic`: the rows are made up, so it is not known which integers the model accepts.
    """
    yield scaled(batch, LARGE_FACTOR)
    if any(array.dtype.kind == "f" for array in batch.values()):
        yield {name: _not_finite(array) for name, array in batch.items()}
    yield {name: np.roll(array, 1, axis=0) for name, array in batch.items()}
    yield scaled(batch, SMALL_FACTOR)
    yield {name: np.repeat(array[:1], len(array), axis=0) for name, array in batch.items()}
    if synthetic:
        yield from _other_integers(batch)


def _other_integers(batch: Feeds) -> Iterator[Feeds]:
    names = [name for name, array in batch.items() if array.dtype.kind in "iu"]
    generator = np.random.default_rng(0)
    for most in INTEGER_BOUNDS:
        drawn = {name: _drawn(batch[name], most, generator) for name in names}
        yield from ([batch | drawn] if drawn else [])
        if len(drawn) > 1:
            yield from (batch | {name: array} for name, array in drawn.items())


def _drawn(array: Array, most: int, generator: np.random.Generator) -> Array:
    return generator.integers(0, min(most, np.iinfo(array.dtype).max), array.shape).astype(array.dtype)


def _scaled(array: Array, factor: float) -> Array:
    if array.dtype.kind == "f":
        with np.errstate(over="ignore", under="ignore"):
            return np.multiply(array, factor, dtype=array.dtype)
    if array.dtype.kind == "O":
        return array * TEXT_REPEATS if factor > 1 else np.full_like(array, "")
    return np.random.default_rng(0).permutation(array.ravel()).reshape(array.shape)


def _not_finite(array: Array) -> Array:
    if array.dtype.kind != "f":
        return array
    changed = array.copy()
    for index, value in enumerate((np.nan, np.inf, -np.inf)):
        changed[index::3] = value
    return changed
