"""The inputs and outputs of a model: binds a request's tensors to its inputs, or says which tensor does not fit."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gateway.errors import InvalidRequest, ModelUnavailable
from gateway.protocol.tensors import Array, InferRequest, RequestedOutput, Tensor, TensorSpec

Feeds = dict[str, Array]


class Signature:
    """The inputs and outputs of one model version.

    `initializers`: weights that a request may override by name. They are not inputs: no document lists them, and
    versions are not compared by them.
    """

    __slots__ = ("_all", "_by_name", "_positions", "_required", "initializers", "inputs", "outputs")

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], initializers: Sequence[TensorSpec] = ()
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.initializers: Mapping[str, TensorSpec] = {spec.name: spec for spec in initializers}
        self._by_name: Mapping[str, TensorSpec] = {spec.name: spec for spec in (*initializers, *inputs)}
        self._required = frozenset(spec.name for spec in inputs if not spec.optional)
        self._all = range(len(self.outputs))
        self._positions = {spec.name: position for position, spec in enumerate(outputs)}

    def bind(self, request: InferRequest) -> Feeds:
        """The arrays to run the model on, by input name. Raises InvalidRequest that names the tensor and the remedy."""
        feeds: Feeds = {}
        for tensor in request.inputs:
            name = tensor.name
            spec = self._by_name.get(name)
            if spec is None:
                raise InvalidRequest(f"unknown input '{name}'; the model's inputs are {_listed(self.inputs)}")
            feeds[name] = _fitted(tensor, spec)
        if self.initializers:
            self._check_complete(feeds)
            return self._inputs_first(feeds)
        if len(feeds) < len(self.inputs):
            self._check_complete(feeds)
        return feeds

    def overrides_weights(self, request: InferRequest) -> bool:
        """Whether the request overrides weights: then it shares no batch."""
        return any(tensor.name in self.initializers for tensor in request.inputs)

    def with_outputs(self, outputs: Sequence[TensorSpec]) -> "Signature":
        """A signature with the same inputs and these outputs."""
        return Signature(self.inputs, outputs, tuple(self.initializers.values()))

    def positions(self, requested: Sequence[RequestedOutput] | None) -> Sequence[int]:
        """The positions of the requested outputs (None: all). Raises InvalidRequest for an unknown one."""
        if requested is None:
            return self._all
        for output in requested:
            if output.name not in self._positions:
                known = _listed(self.outputs)
                raise InvalidRequest(f"unknown output '{output.name}'; the model's outputs are {known}")
        return [self._positions[output.name] for output in requested]

    def check_replaceable_by(self, other: "Signature", version: int) -> None:
        """Raise ModelUnavailable if `other`, that of `version`, could not answer requests made for this one."""
        differences = [*self._input_differences(other), *self._output_differences(other)]
        if differences:
            raise ModelUnavailable(f"version {version} cannot replace the stable version: {'; '.join(differences)}")

    def _check_complete(self, feeds: Feeds) -> None:
        for spec in self.inputs:
            if spec.name in self._required and spec.name not in feeds:
                raise InvalidRequest(f"input '{spec.name}' is missing; send it as {_described(spec)}")

    def _inputs_first(self, feeds: Feeds) -> Feeds:
        """`feeds` with the model's inputs first: the length of the first array is the number of rows."""
        return {spec.name: feeds[spec.name] for spec in self.inputs if spec.name in feeds} | feeds

    def _input_differences(self, other: "Signature") -> Iterator[str]:
        for spec in self.inputs:
            theirs = other._by_name.get(spec.name)
            if theirs is None:
                yield f"it has no input '{spec.name}'"
            elif not (theirs.datatype == spec.datatype and covers(theirs.shape, spec.shape)):
                yield f"its input '{spec.name}' is {_described(theirs)} instead of {_described(spec)}"
        for name in sorted(other._required - self._required):
            yield f"it also needs an input '{name}'"

    def _output_differences(self, other: "Signature") -> Iterator[str]:
        theirs = {spec.name: spec for spec in other.outputs}
        for spec in self.outputs:
            if spec.name not in theirs:
                yield f"it has no output '{spec.name}'"
            elif theirs[spec.name].datatype != spec.datatype:
                yield f"its output '{spec.name}' is {theirs[spec.name].datatype} instead of {spec.datatype}"


def _fitted(tensor: Tensor, spec: TensorSpec) -> Array:
    if tensor.datatype != spec.datatype:
        raise InvalidRequest(f"input '{spec.name}': datatype is {tensor.datatype}, the model takes {spec.datatype}")
    array = tensor.data
    shape = array.shape
    if not covers(spec.shape, shape):
        raise InvalidRequest(
            f"input '{spec.name}': shape is {list(shape)}, the model takes {list(spec.shape)} (-1: any size)"
        )
    return array if spec.datatype != "BYTES" else _strings(array, spec.name)


def covers(spec: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether `shape` fits `spec`, in which -1 is any size."""
    if spec[1:] == shape[1:] and spec and shape and (spec[0] == -1 or spec[0] == shape[0]):
        return True  # the common case: all dimensions are fixed, or all but the rows
    if not spec:  # a scalar or unknown: ONNX Runtime reports both as (), and checks the rank itself
        return True
    return len(spec) == len(shape) and all(size in (actual, -1) for size, actual in zip(spec, shape, strict=True))


def _strings(array: Array, name: str) -> Array:
    """BYTES as ONNX Runtime takes them: `str` objects, or a fixed-width void array if they are not UTF-8.

    ONNX Runtime reads a `bytes` object by its repr, and drops NUL bytes at the end of a fixed-width element.
    """
    flat = array.ravel().tolist()
    try:
        texts = [element if type(element) is str else element.decode() for element in flat]
    except UnicodeDecodeError:
        return _void(flat, name).reshape(array.shape)
    result = np.empty(len(texts), object)
    result[:] = texts
    return result.reshape(array.shape)


def _void(flat: list[str | bytes], name: str) -> Array:
    elements = [element.encode() if isinstance(element, str) else element for element in flat]
    if any(element.endswith(b"\0") for element in elements):
        raise InvalidRequest(
            f"input '{name}': an element that is not UTF-8 ends in a NUL byte, which ONNX Runtime would drop; encode it"
        )
    return np.array(elements, dtype=f"V{max(map(len, elements))}")


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"'{spec.name}' ({_described(spec)})" for spec in specs)


def _described(spec: TensorSpec) -> str:
    return f"{spec.datatype} {list(spec.shape)}"
