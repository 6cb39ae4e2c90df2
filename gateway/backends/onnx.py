"""One ONNX Runtime session: its signature, and a synchronous run from arrays to arrays."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from gateway.backends.memory_errors import model_failure
from gateway.backends.node_placement import record_placement
from gateway.backends.onnx_graph import with_outputs
from gateway.backends.output_shapes import ObservedRun, observed_specs
from gateway.backends.providers import open_session, with_defaults
from gateway.backends.signature import Feeds, Signature
from gateway.errors import GatewayError, InvalidRequest, ModelFailed, ModelUnavailable, RequestError
from gateway.protocol.tensors import BY_ONNX_TYPE, Array, ObservedOutput, TensorSpec
from gateway.settings.providers import Provider, parse_provider

_TENSOR: Final = re.compile(r"(optional\()?(tensor\(\w+\))\)?$")
_MAPS: Final = re.compile(r"seq\(map\((int64|string),tensor\(float\)\)\)$")
_ON_CUDA: Final = ("CUDA", "Tensorrt", "NvTensorRT")
_FATAL: Final = 4  # ONNX Runtime's log level: errors reach the caller as exceptions, not a second time on stderr

Result = Array | None  # None: an optional output that the model left out


class OnnxSession:
    """A loaded model file.

    `dimensions`: for each required input, the size of each dimension or the name of a free one (None: no name).
    `all_required`: no input or output is optional; what has an initializer is no input. `overridable`: the weights that
    a request may replace. `providers`: those that run it; if some of the requested ones are missing, `warning` says so.
    """

    __slots__ = (
        "_maps", "_names", "_reopen", "_run", "_session", "all_required", "dimensions", "file", "overridable",
        "providers", "reopen", "shown", "signature", "warning",
    )  # fmt: skip

    def __init__(self, path: Path, threads: int, providers: Sequence[Provider | str]) -> None:
        self.file = path
        wanted = [with_defaults(parse_provider(provider)) for provider in providers]
        self._reopen = partial(_opened_again, path, threads, wanted)
        self.reopen = partial(OnnxSession, path, threads, providers)  # raises ModelUnavailable
        self._session, self.warning = _open(path, threads, wanted)
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        inputs = self._session.get_inputs()
        outputs = self._session.get_outputs()
        defaults = self._session.get_overridable_initializers()
        self.overridable = frozenset(item.name for item in defaults)
        self._names = [output.name for output in outputs]
        self._run: Any = getattr(self._session, "_sess", self._session).run  # without the Python wrapper around it
        self._maps = {position for position, output in enumerate(outputs) if _MAPS.match(output.type)}
        self.signature = Signature(
            [_input_spec(item) for item in inputs],
            [_output_spec(item) for item in outputs],
            [spec for item in defaults if (spec := _tensor_spec(item)) is not None],
        )
        self.shown: Sequence[ObservedOutput | None] = ()
        self.all_required = not any("optional" in item.type for item in (*inputs, *outputs))
        self.dimensions: Mapping[str, list[int | str | None]] = {
            item.name: item.shape for item in inputs if "optional" not in item.type
        }

    def run(self, feeds: Feeds, options: onnxruntime.RunOptions | None = None) -> list[Result]:
        """All outputs for the given inputs, in the signature's order; `options` lets another thread end the run.

        Raises InvalidRequest if ONNX Runtime rejects the inputs' values, ModelFailed for any other failure.
        """
        try:
            results: list[Any] = self._run(self._names, feeds, options)
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument as error:
            raise InvalidRequest(f"the model rejects these inputs: {_reason(error)}") from None
        except UnicodeDecodeError as error:
            raise _not_text(feeds) from error
        except Exception as error:
            raise model_failure(error) from error
        for position in self._maps:
            results[position] = self._matrix(position, results[position])
        return results

    def learn_labels(self, feeds: Feeds) -> None:
        """Run once on one row to learn the outputs' shapes, and the class labels of sequences of maps."""
        results = self._session.run(self._names, feeds)
        self.shown = [_shown(result) for result in results]
        if not self._maps:
            return
        outputs = list(self.signature.outputs)
        for position in self._maps:
            labels = tuple(map(str, results[position][0]))
            spec = outputs[position]
            outputs[position] = TensorSpec(spec.name, spec.datatype, (-1, len(labels)), spec.optional, labels)
        self.signature = self.signature.with_outputs(outputs)

    def learn_shapes(self, runs: Sequence[ObservedRun]) -> None:
        """Set the outputs' shapes in the signature to those that the runs have shown."""
        fixed = all(isinstance(size, int) for shape in self.dimensions.values() for size in shape[1:])
        self.signature = self.signature.with_outputs(observed_specs(self.signature.outputs, runs, fixed=fixed))

    def on_cpu(self) -> bool:
        """Whether it runs on the CPU alone. On devices, another batch size may use another algorithm."""
        return self.providers == ("CPUExecutionProvider",)

    def cuda_device(self) -> int | None:
        """The number of the CUDA device that runs it; None if none does."""
        first = self.providers[0]
        if not first.startswith(_ON_CUDA):
            return None
        return int(self._session.get_provider_options().get(first, {}).get("device_id", 0))

    def with_inner_outputs(self, names: Sequence[str]) -> Any:
        """Open another ONNX Runtime session on the same file, with these inner tensors among its outputs.

        Raises ModelUnavailable if ONNX Runtime cannot infer their types.
        """
        return self._reopen(with_outputs(self.file.read_bytes(), names))

    def _matrix(self, position: int, rows: list[dict[Any, float]]) -> Array:
        """The output of scikit-learn's ZipMap, one {label: score} per row, as FP32 [rows, classes]."""
        classes = len(self.signature.outputs[position].labels)
        return np.array([list(row.values()) for row in rows], np.float32).reshape(len(rows), -1 if rows else classes)


def _shown(result: Any) -> ObservedOutput | None:
    if not isinstance(result, np.ndarray):
        return None
    is_number = result.size == 1 and result.dtype.kind == "f"
    return ObservedOutput(result.shape, float(result.item()) if is_number else None)


def _not_text(feeds: Feeds) -> RequestError:
    """The error for output strings that are not UTF-8, which ONNX Runtime's Python API cannot return. The model is at
    fault unless the request's strings are not UTF-8.
    """
    if any(array.dtype.kind == "V" for array in feeds.values()):
        return InvalidRequest(
            "the model answers with bytes that are not UTF-8, as it was sent, and cannot be read: encode them"
        )
    return ModelFailed("the model answers with strings that are not UTF-8")


def _open(path: Path, threads: int, providers: Sequence[Provider]) -> tuple[Any, str]:
    try:
        return open_session(path, record_placement(_options(threads), providers), providers)
    except ModelUnavailable as error:
        raise ModelUnavailable(f"{path}: {error}") from None
    except Exception as error:
        raise ModelUnavailable(f"{path}: ONNX Runtime cannot load it: {_reason(error)}") from None


def _opened_again(path: Path, threads: int, providers: Sequence[Provider], model: bytes) -> Any:
    """Open a session on `model`, a changed content of the file at `path`, with weights from the file's folder."""
    options = _options(threads)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        return onnxruntime.InferenceSession(model, options, providers=list(providers), enable_fallback=0)
    except Exception as error:
        raise ModelUnavailable(f"{path}: ONNX Runtime cannot load it: {_reason(error)}") from None


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _input_spec(item: Any) -> TensorSpec:
    spec = _tensor_spec(item)
    if spec is None:
        raise ModelUnavailable(f"input '{item.name}' is of type {item.type}, which cannot be sent over the protocol")
    return spec


def _output_spec(item: Any) -> TensorSpec:
    spec = TensorSpec(item.name, "FP32", (-1, -1)) if _MAPS.match(item.type) else _tensor_spec(item)
    if spec is None:
        raise ModelUnavailable(f"output '{item.name}' is of type {item.type}, which cannot be sent over the protocol")
    return spec


def _tensor_spec(item: Any) -> TensorSpec | None:
    """The spec of an input or output; None if the protocol cannot carry its type."""
    match = _TENSOR.match(item.type)
    datatype = BY_ONNX_TYPE.get(match[2]) if match else None
    if match is None or datatype is None:
        return None
    return TensorSpec(item.name, datatype.name, _sizes(item.shape), match[1] is not None)


def _sizes(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in shape)


def _reason(error: BaseException) -> str:
    if isinstance(error, GatewayError):
        return str(error)
    return str(error).removeprefix("[ONNXRuntimeError] : ").strip() or type(error).__name__
