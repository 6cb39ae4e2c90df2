"""How a regression's errors are distributed: over all rows, and in the slices that are worse or differ by version."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gateway.offline.analysis.dimensions import dimensions_of
from gateway.offline.analysis.slices import Slice
from gateway.offline.analysis.table import Columns
from gateway.offline.analysis.versions import OF_THE_DRAW, Comparison
from gateway.offline.unit_means import Floats

ERROR: Final = "error"
MAX_SLICES: Final = 8
_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Residuals:
    """The distribution of prediction minus truth in one slice ("": all rows) of one version.

    `quantiles`: at 5, 25, 50, 75 and 95%.
    """

    slice: str
    version: int
    count: int
    mean: float
    quantiles: Sequence[float]


def residuals_of(columns: Columns, slices: Sequence[Slice], comparison: Comparison | None) -> list[Residuals]:
    """The residuals of each version over all rows, and in the most telling slices; empty for other kinds."""
    errors = columns.outcomes.get(ERROR)
    if errors is None:
        return []
    differing = [(one.dimension, one.slice) for one in (comparison.slices if comparison else ())][: MAX_SLICES // 2]
    wanted = [*differing, *((one.dimension, one.value) for one in slices)]
    chosen = [part for part in dict.fromkeys(wanted) if part[0] not in OF_THE_DRAW][:MAX_SLICES]
    codes = {dimension.name: dimension for dimension in dimensions_of(columns)}
    found = list(_of_versions("", columns.version, errors))
    for name, value in chosen:
        dimension = codes.get(name)
        if dimension is not None and value in dimension.values:
            mine = dimension.codes == dimension.values.index(value)
            found += _of_versions(f"{name}: {value}", columns.version[mine], errors[mine])
    return found


def _of_versions(name: str, versions: Any, errors: Floats) -> Iterator[Residuals]:
    known = np.isfinite(errors)
    for version in np.unique(versions[known]).tolist():
        mine = errors[known & (versions == version)]
        quantiles = np.quantile(mine, _QUANTILES).tolist()
        yield Residuals(name, int(version), len(mine), float(mine.mean()), quantiles)
