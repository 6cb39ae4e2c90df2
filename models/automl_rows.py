"""The labelled rows of an export, Parquet or JSON Lines: each different input once, the last ones held out."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HELD_OUT = 0.2  # of the rows; the last ones
FEWEST_ROWS = 50
FEWEST_OF_A_CLASS = 5  # among the rows trained on: each fold of the search needs one
TRUTH = ["truth", "truth_class", "label_conflict"]
SPREAD = 0.1  # of the truths' standard deviation: numbers that are further apart contradict each other
BATCH_ROWS = 4_096


@dataclass(frozen=True, slots=True)
class Target:
    """What is predicted. `labels`: the classes' names, in the order of the scores; None: a number.

    `output`: the model's main output, whose truths are meant where feedback names several. `truth_is_json`: whether the
    export has truths as JSON, because their types differ.
    """

    labels: Sequence[str] | None
    output: str | None = None
    truth_is_json: bool = False

    def value(self, truth: Any, truth_class: Any) -> Any:
        """A class's index, or a number; None if the truth is none."""
        if self.labels is None:
            is_number = isinstance(truth, int | float) and not isinstance(truth, bool) and np.isfinite(truth)
            return float(truth) if is_number else None
        if truth_class is None:
            name = str(truth)
            return self.labels.index(name) if name in self.labels else None
        return truth_class if 0 <= truth_class < len(self.labels) else None


@dataclass(frozen=True, slots=True)
class Column:
    """An input of the model. `column`: its name in the export; `dtype`: of its elements, `object` for strings."""

    name: str
    column: str
    dtype: Any


@dataclass(slots=True)
class Rows:
    """Rows with truths, ordered by time. `inputs`: by name, [rows, values]; `truths`: class indices or numbers."""

    inputs: dict[str, Any]
    truths: Any

    def __len__(self) -> int:
        return len(self.truths)

    def part(self, chosen: Any) -> "Rows":
        """The rows that `chosen` picks."""
        return Rows({name: values[chosen] for name, values in self.inputs.items()}, self.truths[chosen])


@dataclass(slots=True)
class Labelled:
    """The rows to train on and those held out, and how many rows were left out for each reason."""

    train: Rows
    held_out: Rows
    left_out: Counter[str]


@dataclass(slots=True)
class _Input:
    """One different input, and all truths that were given for it. `request`: the prediction that it was first in.

    `conflict`: whether several truths for one prediction contradict each other.
    """

    values: list[Any]
    time_ns: int
    request: str
    truths: list[Any] = field(default_factory=list)
    conflict: bool = False


def read_rows(folder: Path, manifest: Mapping[str, Any], columns: Sequence[Column], target: Target) -> Labelled:
    """Read the rows; an input that occurs again counts once, with the time at which it was first seen.

    So no held-out row equals one that is trained on, and the rows of one request stay together. Ends the script where
    there is too little to learn from.
    """
    left_out: Counter[str] = Counter()
    found: dict[bytes, _Input] = {}
    for record in _records(folder, manifest, [column.column for column in columns]):
        for values, truth, conflict in _rows_of(record, columns, target, left_out):
            one = found.setdefault(_key(values), _Input(values, record["time_ns"], record["prediction_id"]))
            left_out["repeated"] += len(one.truths) > 0
            one.truths.append(truth)
            one.conflict |= conflict
    chosen, truths = _agreed(list(found.values()), target)
    left_out["contradicting truths"] = len(found) - len(chosen)
    _check_agreement(len(found), len(chosen))
    _check_enough(len(chosen), +left_out)
    order = sorted(range(len(chosen)), key=lambda number: chosen[number].time_ns)
    chosen, truths = [chosen[number] for number in order], np.asarray([truths[number] for number in order])
    inputs = {column.name: _stacked(column, [one.values[at] for one in chosen]) for at, column in enumerate(columns)}
    rows, split = Rows(inputs, truths), _split(chosen)
    return Labelled(rows.part(slice(0, split)), rows.part(slice(split, None)), +left_out)


def drop_rare_classes(labelled: Labelled, target: Target) -> list[str]:
    """Leave classes with too few rows out of training; return their names. Ends the script if there are not two."""
    assert target.labels is not None
    counts = np.bincount(labelled.train.truths, minlength=len(target.labels))
    enough = counts >= FEWEST_OF_A_CLASS
    if enough.sum() < 2:
        known = ", ".join(f"{name}: {count}" for name, count in zip(target.labels, counts, strict=True) if count)
        raise SystemExit(
            f"fewer than two classes have {FEWEST_OF_A_CLASS} rows to train on ({known or 'none has any'}), and there"
            " is nothing to tell apart; send truths of other classes, or export a longer period"
        )
    kept = enough[labelled.train.truths]
    labelled.left_out["of a rare class"] = int((~kept).sum())
    labelled.left_out = +labelled.left_out
    labelled.train = labelled.train.part(kept)
    return [name for name, is_enough in zip(target.labels, enough, strict=True) if not is_enough]


def _records(folder: Path, manifest: Mapping[str, Any], inputs: list[str]) -> Iterator[dict[str, Any]]:
    wanted = ["prediction_id", "time_ns", *inputs, *(f"{name}_shape" for name in inputs), *TRUTH]
    for part in manifest["files"]:
        file = folder / part["path"]
        if manifest["format"] == "jsonl":
            with file.open("rb") as lines:
                yield from map(json.loads, lines)
        else:
            import pyarrow.parquet as parquet

            for batch in parquet.ParquetFile(file).iter_batches(BATCH_ROWS, columns=wanted):
                yield from batch.to_pylist()


def _rows_of(
    record: Mapping[str, Any], columns: Sequence[Column], target: Target, left_out: Counter[str]
) -> Iterator[tuple[list[Any], Any, bool]]:
    """The rows of one prediction: their values by input, truths, and whether several truths contradict each other."""
    truth, truth_class = record["truth"], record["truth_class"]
    if target.truth_is_json and truth is not None:
        truth = json.loads(truth)
    if isinstance(truth, dict):  # truths of several outputs
        truth = truth.get(target.output)
    if truth is None and truth_class is None:
        left_out["without a truth"] += 1
        return
    shapes = [record[f"{column.column}_shape"] for column in columns]
    if any(shape is None or len(shape) not in (1, 2) for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
        left_out["without a complete input"] += 1
        return
    count = shapes[0][0]
    values = [_array(record[column.column], column).reshape(count, -1) for column in columns]
    for row in range(count):
        value = target.value(_of_row(truth, row, count), _of_row(truth_class, row, count))
        if value is None:
            left_out["without a truth that fits"] += 1
        else:
            yield [array[row] for array in values], value, bool(_of_row(record["label_conflict"], row, count))


def _of_row(value: Any, row: int, rows: int) -> Any:
    """The value of one row; a single one of a request with several rows is nobody's."""
    if isinstance(value, list):
        return value[row] if row < len(value) else None
    return value if rows == 1 else None


def _array(values: list[Any], column: Column) -> Any:
    if column.dtype is object:
        return np.array(values, object)
    if any(isinstance(value, str) for value in values):  # JSON Lines spell what JSON cannot: "NaN", "Infinity"
        values = [float(value) for value in values]
    return np.array(values, column.dtype)


def _key(values: Sequence[Any]) -> bytes:
    """The same for inputs that are equal as numbers of 32 bits, as which they are learned from."""
    parts: list[bytes] = []
    for array in values:
        if array.dtype == object:
            parts.append(json.dumps(array.tolist()).encode())
        else:
            with np.errstate(over="ignore"):
                numbers = array.astype(np.float32) + np.float32(0)  # -0 is 0
            numbers[~np.isfinite(numbers)] = np.nan
            parts.append(numbers.tobytes())
    return b"|".join(parts)


def _agreed(found: list[_Input], target: Target) -> tuple[list[_Input], list[Any]]:
    """The inputs whose truths do not contradict each other, and their truths: the class, or the mean of numbers."""
    if target.labels is not None:
        chosen = [one for one in found if len(set(one.truths)) == 1 and not one.conflict]
        return chosen, [one.truths[0] for one in chosen]
    all_truths = [truth for one in found for truth in one.truths]
    apart = SPREAD * float(np.std(all_truths)) if all_truths else 0.0
    chosen = [one for one in found if max(one.truths) - min(one.truths) <= apart and not one.conflict]
    return chosen, [float(np.mean(one.truths)) for one in chosen]


def _split(chosen: Sequence[_Input]) -> int:
    """Where the held-out rows begin: behind a request, because its rows are often alike."""
    split = len(chosen) - round(HELD_OUT * len(chosen))
    while split < len(chosen) - 1 and chosen[split].request == chosen[split - 1].request:
        split += 1
    return split


def _stacked(column: Column, rows: list[Any]) -> Any:
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise SystemExit(
            f"input '{column.name}' has {min(widths)} to {max(widths)} values a row: that is no table;"
            " train such a model with a script of its own, such as models/digits/train.py"
        )
    return np.stack(rows)


def _check_agreement(inputs: int, agreed: int) -> None:
    if inputs and agreed < inputs / 2:
        raise SystemExit(
            f"{inputs - agreed:,} of {inputs:,} different inputs have truths that contradict each other, and nothing"
            " can be learned from those; `gateway analyze` names them and the customers who sent them"
        )


def _check_enough(rows: int, left_out: Counter[str]) -> None:
    if rows < FEWEST_ROWS:
        why = "; left out: " + ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
        raise SystemExit(
            f"{rows:,} different rows with truths are too few, {FEWEST_ROWS} are the least{why if left_out else ''};"
            " send truths (`gateway feedback`, POST /v2/feedback), or export a longer period"
        )
