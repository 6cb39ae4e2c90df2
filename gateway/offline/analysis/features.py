"""The input features of a row: a number or a category each, with the names that model.yaml gives them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.protocol.tensors import Tensor

MAX_FEATURES: Final = 64
MAX_CATEGORY: Final = 60  # characters; a longer text is no category
Value = float | str


@dataclass(frozen=True, slots=True)
class FeatureNames:
    """The names of the columns by input; `main`: of the only input, where model.yaml does not say of which."""

    main: Sequence[str] = ()
    by_input: Mapping[str, Sequence[str]] | None = None

    def of(self, tensor: str, width: int, inputs: int) -> Sequence[str]:
        """The names of an input's `width` columns: NAME[i] for those without one, NAME for a single one."""
        given = (self.by_input or {}).get(tensor, self.main if inputs == 1 or len(self.main) > 1 else ())
        if len(given) == width:
            return given
        return [tensor] if width == 1 else [f"{tensor}[{index}]" for index in range(width)]


def features_of(inputs: Sequence[Tensor], rows: int, names: FeatureNames) -> list[Mapping[str, Value]]:
    """The features of each of `rows` rows; of no more than `MAX_FEATURES` columns, and none if there are more.

    Inputs with another number of rows, and texts that are too long to be a category, are left out.
    """
    of_rows = [tensor for tensor in inputs if tensor.data.ndim and tensor.data.shape[0] == rows and tensor.data.size]
    if not 0 < sum(tensor.data.size // rows for tensor in of_rows) <= MAX_FEATURES:
        return []
    columns = [column for tensor in of_rows for column in _columns(tensor, rows, names, len(inputs))]
    return [{name: value for name, values in columns if (value := values[row]) is not None} for row in range(rows)]


def _columns(
    tensor: Tensor, rows: int, names: FeatureNames, inputs: int
) -> Iterator[tuple[str, Sequence[Value | None]]]:
    data = tensor.data.reshape(rows, -1)
    for index, name in enumerate(names.of(tensor.name, data.shape[1], inputs)):
        column = data[:, index]
        if tensor.datatype in ("BYTES", "BOOL"):
            yield name, [_category(value) for value in column.tolist()]
        else:
            yield name, column.astype(float).tolist()


def _category(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) and len(value) <= MAX_CATEGORY else None
