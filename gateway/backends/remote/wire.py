"""The bodies of requests to another server, and of its responses.

A request is passed on as the client sent it, if the server takes that form: so its response has the form that the
client asked for, and its outputs are passed on as well, decoded only if something needs their elements. Other requests
(one raw element as the body, classification, FP16 as JSON) are written anew, and their response is decoded.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, SupportsIndex, overload

import orjson

from gateway.backends.batch import Answer
from gateway.backends.onnx import Result
from gateway.backends.remote.connection import Response
from gateway.backends.remote.signature import RemoteFeeds
from gateway.errors import InvalidOutput, InvalidRequest
from gateway.protocol.decode import decode_outputs
from gateway.protocol.elements import to_bytes, to_json
from gateway.protocol.source import RequestSource
from gateway.protocol.tensors import InferRequest, TensorSpec

JSON_LENGTH: Final = b"inference-header-content-length"
MAX_VERSION_LENGTH: Final = 100


class Body(NamedTuple):
    """A request's body. `json_length`: bytes of JSON before raw tensors, None if it is all JSON. `asis`: it is the
    client's own, so the response has the form that the client asked for.
    """

    data: bytes
    json_length: int | None
    asis: bool


class Forms(NamedTuple):
    """What a server takes. `binary`: tensors as raw bytes. `half`: the model has FP16 tensors, which Triton has no JSON
    for: they are sent and asked for as raw bytes, if it takes those.
    """

    binary: bool
    half: bool

    @classmethod
    def known(cls, binary: bool, specs: Iterable[TensorSpec]) -> "Forms":
        """Those of a server that takes binary tensors or not, for a model with these inputs and outputs."""
        return cls(binary, any(spec.datatype == "FP16" for spec in specs))


def body_of(feeds: RemoteFeeds, forms: Forms) -> Body:
    """The body to send to a server that takes these forms."""
    request = feeds.request
    source = request.source
    binary = forms.binary
    if (
        source is not None
        and source.media is None
        and (binary or (source.json_length is None and not _asks_for_binary(request)))
        and not any(output.classification for output in request.outputs or ())
        and not (binary and forms.half and not _is_all_binary(request, source))
        and not _is_ambiguous(source)
    ):
        return Body(source.body, source.json_length, True)
    return _written(request, binary)


def _is_ambiguous(source: RequestSource) -> bool:
    """Whether its JSON may hold a key twice, of which the gateway has seen the last and its server may take the first:
    one of those that the gateway refuses.
    """
    text = source.body if source.json_length is None else source.body[: source.json_length]
    return b"shared_memory" in text or b"sequence_" in text or b"\\" in text


def _asks_for_binary(request: InferRequest) -> bool:
    return request.binary_output or any(output.binary for output in request.outputs or ())


def _is_all_binary(request: InferRequest, source: RequestSource) -> bool:
    """Whether it has no tensor as JSON, neither sent nor asked for; False as well where a text's size hides that."""
    if source.json_length is None or any(tensor.datatype == "BYTES" for tensor in request.inputs):
        return False
    sent = sum(tensor.data.nbytes for tensor in request.inputs) == len(source.body) - source.json_length
    wanted = (request.binary_output if one.binary is None else one.binary for one in request.outputs or ())
    return sent and (request.binary_output if request.outputs is None else all(wanted))


def _written(request: InferRequest, binary: bool) -> Body:
    tail: list[bytes] = []
    inputs = []
    for tensor in request.inputs:
        item: dict[str, Any] = {"name": tensor.name, "shape": tensor.data.shape, "datatype": tensor.datatype}
        if binary:
            tail.append(to_bytes(tensor.data, tensor.datatype))
            item["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            item["data"] = to_json(tensor.data, tensor.datatype)
        inputs.append(item)
    document: dict[str, Any] = {"inputs": inputs, "parameters": {**request.parameters, "binary_data_output": binary}}
    if request.id is not None:
        document["id"] = request.id
    if request.outputs is not None:
        form = {"binary_data": binary}  # Triton heeds the request's own parameter only where no outputs are listed
        document["outputs"] = [{"name": output.name, "parameters": form} for output in request.outputs]
    text = orjson.dumps(document)
    return Body(b"".join((text, *tail)), len(text) if tail else None, False)


def form_of(body: Body) -> bytes:
    """The end of a request's head: the headers that describe its body, and the empty line."""
    size = len(body.data)
    if body.json_length is None:
        return b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
    head = b"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n" % body.json_length
    return b"%bContent-Length: %d\r\n\r\n" % (head, size)


class RemoteAnswer(Answer):
    """A server's outputs, in the order of the declared ones; decoded when an element is first looked at.

    Looking raises InvalidOutput if they cannot be decoded or are not as declared.
    """

    def __init__(self, document: dict[str, Any], tail: memoryview | None, specs: Sequence[TensorSpec]) -> None:
        super().__init__()
        self._document: dict[str, Any] | None = document
        self._tail = tail
        self._specs = specs

    def decode(self) -> None:
        """Decode the outputs, unless that has been done."""
        document, self._document = self._document, None
        if document is None:
            return
        try:
            found = {tensor.name: tensor for tensor in decode_outputs(document, self._tail)}
        except InvalidRequest as error:
            raise InvalidOutput(f"the answer of the model's server cannot be read: {error}") from None
        for spec in self._specs:
            tensor = found.get(spec.name)
            if tensor is not None and tensor.datatype != spec.datatype:
                raise InvalidOutput(f"output '{spec.name}' is {tensor.datatype}; declared is {spec.datatype}")
            super().append(None if tensor is None else tensor.data)

    def __iter__(self) -> Iterator[Result]:
        self.decode()
        return super().__iter__()

    def __len__(self) -> int:
        return len(self._specs)

    @overload
    def __getitem__(self, at: SupportsIndex) -> Result: ...
    @overload
    def __getitem__(self, at: slice) -> list[Result]: ...
    def __getitem__(self, at: SupportsIndex | slice) -> Any:
        self.decode()
        return super().__getitem__(at)


def read(
    response: Response, feeds: RemoteFeeds, model: str, url: str, specs: Sequence[TensorSpec], asis: bool
) -> RemoteAnswer:
    """The answer in a response of status 200 from the address `url`; sets `feeds.answered_by`. Raises InvalidOutput."""
    body = response.body
    length = response.headers.get(JSON_LENGTH)
    tail: memoryview | None = None
    text: bytes | memoryview = body
    if length is not None:
        if not length.isdigit() or len(length) > 12 or int(length) > len(body):
            raise InvalidOutput("the answer of the model's server gives a wrong Inference-Header-Content-Length")
        text, tail = memoryview(body)[: int(length)], memoryview(body)[int(length) :]
    document, finite = _parsed(text)
    if document.get("model_name", model) != model:
        raise InvalidOutput(f"the model's server answered for another model, {document['model_name']!r:.60}")
    outputs = document.get("outputs")
    names = [spec.name for spec in specs]
    sizes = _checked(outputs, {spec.name: spec.datatype for spec in specs})
    wanted = [output.name for output in feeds.request.outputs] if feeds.request.outputs is not None else names
    given = [item["name"] for item in outputs or ()]
    if given != wanted and (missing := set(wanted) - set(given)):
        raise InvalidOutput(f"the answer of the model's server lacks the output '{min(missing)}'")
    if len(set(given)) < len(given):
        raise InvalidOutput("the answer of the model's server holds an output twice")
    if sizes != len(tail or b""):
        raise InvalidOutput(
            f"the answer of the model's server holds {len(tail or b'')} bytes after its JSON, not {sizes}"
        )
    version = document.get("model_version")
    shown = version[:MAX_VERSION_LENGTH] if isinstance(version, str) else None
    feeds.answered_by = b"," + orjson.dumps({"remote": url, "remote_model": model, "remote_version": shown})[1:-1]
    answer = RemoteAnswer(document, tail, specs)
    if not (asis and finite):  # NaN is written in the protocol's way
        answer.decode()
        return answer
    if b"null" in bytes(text):  # NaN, as orjson and JavaScript write it: decoding refuses it
        answer.decode()
    answer.written = orjson.dumps(outputs), bytes(tail or b""), False
    return answer


def _checked(outputs: Any, datatypes: Mapping[str, str]) -> int:
    """The bytes of raw tensors that the outputs announce. Raises InvalidOutput if one is not as the protocol says, or
    not of the declared datatype.
    """
    if type(outputs) is not list:
        raise InvalidOutput("the answer of the model's server has no list of outputs")
    sizes = 0
    for item in outputs:
        name = item.get("name") if type(item) is dict else None
        if type(name) is not str or name not in datatypes:
            raise InvalidOutput("the answer of the model's server holds an output that the model does not have")
        if item.get("datatype") != datatypes[name]:
            raise InvalidOutput(f"output '{name}' is {item.get('datatype')!r:.60}; declared is {datatypes[name]}")
        shape = item.get("shape")
        if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
            raise InvalidOutput(f"output '{item['name']}' has no shape")
        parameters = item.get("parameters") or {}
        size = parameters.get("binary_data_size", 0) if type(parameters) is dict else -1
        if type(size) is not int or size < 0 or ("data" in item) == ("binary_data_size" in parameters):
            raise InvalidOutput(f"output '{item['name']}' has neither data nor a valid binary_data_size")
        sizes += size
    return sizes


def _parsed(text: bytes | memoryview) -> tuple[dict[str, Any], bool]:
    """The document, and whether it is JSON in the strict sense, which has no NaN."""
    finite = True
    try:
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError:  # Python's servers write NaN
            found, finite = json.loads(bytes(text)), False
    except (ValueError, RecursionError):
        found = None
    if type(found) is not dict:
        raise InvalidOutput("the answer of the model's server is not a JSON object")
    return found, finite
