"""Tables, arrays and mappings as V2 inference requests, and the answers as predictions of MLflow."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gateway.cli.mlflow.planes import invalid

BYTES: Final = "BYTES"


def request_body(inputs: Any, specs: list[dict[str, Any]]) -> bytes:
    """A request of a DataFrame, an array, a list of rows, or a mapping of them by input.

    `specs`: the model's inputs as its metadata has them. A table whose columns are the inputs' names gives one input a
    column; any other is the rows of a model's only input, its columns in their order. Raises MlflowException.
    """
    given = _by_input(inputs, specs)
    names = [spec["name"] for spec in specs]
    if unknown := sorted(given.keys() - set(names)):
        raise invalid(f"the model has no input {unknown[0]!r}; it has {', '.join(names)}")
    tensors = [_tensor(spec, given[spec["name"]]) for spec in specs if spec["name"] in given]
    return json.dumps({"inputs": tensors}).encode()


def predictions_of(answer: dict[str, Any]) -> Any:
    """A row for each row of the request: the output's value, or a mapping by output if there are several.

    If the outputs differ in their number of rows, a mapping of the outputs.
    """
    outputs = {output["name"]: _nested(output["data"], output["shape"]) for output in answer["outputs"]}
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    if len({output["shape"][0] if output["shape"] else None for output in answer["outputs"]}) > 1:
        return outputs
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]


def _by_input(inputs: Any, specs: list[dict[str, Any]]) -> dict[str, Any]:
    names = [spec["name"] for spec in specs]
    if isinstance(inputs, Mapping):
        return {str(name): value for name, value in inputs.items()}
    if hasattr(inputs, "columns"):
        columns = [str(column) for column in inputs.columns]
        if set(columns) <= set(names):
            return {name: inputs.iloc[:, position].tolist() for position, name in enumerate(columns)}
        inputs = inputs.to_numpy()
    if len(specs) != 1:
        raise invalid(f"the model has the inputs {', '.join(names)}; give a column, or a key of a mapping, for each")
    return {names[0]: inputs}


def _tensor(spec: dict[str, Any], value: Any) -> dict[str, Any]:
    try:
        array = np.asarray(value, dtype=object if spec["datatype"] == BYTES else None)
    except ValueError:
        raise invalid(f"input {spec['name']!r}: its rows differ in length") from None
    wanted = spec["shape"]
    if array.ndim == len(wanted) - 1 and wanted[-1] in (1, -1) and len(wanted) > 1:
        array = array[..., np.newaxis]  # a column of plain values, for an input of one value a row
    parameters, data = {}, array.ravel().tolist()
    if any(isinstance(one, bytes) for one in data):
        parameters = {"parameters": {"content_type": "base64"}}
        data = [base64.b64encode(one if isinstance(one, bytes) else str(one).encode()).decode() for one in data]
    elif spec["datatype"] == BYTES and not all(isinstance(one, str) for one in data):
        raise invalid(
            f"input {spec['name']!r} is text; {next(one for one in data if not isinstance(one, str))!r} is not"
        )
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": list(array.shape), "data": data} | parameters


def _nested(data: list[Any], shape: list[int]) -> Any:
    """Nested lists of the shape; `data` is flat."""
    if math.prod(shape) != len(data):
        raise invalid(f"the gateway answers {len(data)} values for the shape {shape}")
    array = np.empty(len(data), dtype=object)
    array[:] = data
    return array.reshape(shape).tolist()
