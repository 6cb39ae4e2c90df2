"""The one path that every prediction takes: decide, bind, run, answer."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.deployment import Deployment, ServedModel
from gateway.errors import InvalidRequest, NotFound, Overloaded, RequestError
from gateway.protocol.classification import classify
from gateway.records.token import prediction_ids
from gateway.routing.attributes import Attributes
from gateway.serving.batcher import Answer
from gateway.serving.version import ModelVersion
from gateway.settings.gateway_settings import LimitsSettings
from gateway.tensors import InferRequest, InferResponse, RequestedOutput, Tensor

NO_BINARY: Final[frozenset[str]] = frozenset()


class Gateway:
    """Serves predictions from what `deployment` holds at the moment a request arrives."""

    def __init__(self, deployment: Deployment, limits: LimitsSettings) -> None:
        self.deployment = deployment
        self.draining = False
        self.inflight = 0
        self.crowd: Callable[[], int] = lambda: (
            2
        )  # requests whose bytes have arrived; told by the server when there is one
        self._max_inflight = limits.inflight
        self._timeout_ns = int(limits.timeout * 1e9)
        self._next_id = prediction_ids()

    def admit(self) -> None:
        """Count a request in; raises Overloaded beyond `limits.inflight`. Every admitted request must be let go."""
        if self.inflight >= self._max_inflight:
            raise Overloaded(f"{self.inflight} requests are in flight, which is limits.inflight; try again later")
        self.inflight += 1

    def let_go(self) -> None:
        """The request admitted before has been answered."""
        self.inflight -= 1

    def served(self, name: str) -> ServedModel:
        """The model as it is served now; raises NotFound."""
        served = self.deployment.models.get(name)
        if served is None:
            raise NotFound(f"model '{name}' is not served; POST /v2/repository/index lists what is")
        return served

    def version(self, name: str, number: int) -> ModelVersion:
        """One version as it is served now; raises NotFound that lists the others."""
        versions = self.served(name).versions
        if number not in versions:
            there = ", ".join(map(str, sorted(versions)))
            raise NotFound(f"model '{name}' is not served in version {number}; served are {there}")
        return versions[number]

    async def infer(
        self, served: ServedModel, pinned: int | None, request: InferRequest, attributes: Attributes
    ) -> InferResponse:
        """The prediction of the version that the release decides on, or of the `pinned` one; raises RequestError."""
        started_ns = time.monotonic_ns()
        prediction_id = self._next_id()
        decision = served.release.pinned(pinned) if pinned else served.release.decide(attributes, prediction_id)
        version = served.versions[decision.version]
        try:
            patience_ns = self._patience_ns(request)
            feeds = version.signature.bind(request)
            positions = version.signature.positions(request.outputs)
            if self.crowd() <= 1 and not version.waits:
                answer = version.infer_now(feeds)
            else:
                answer = await version.infer(feeds, started_ns + patience_ns)
            response = _response(version, request, positions, answer)
        except RequestError:
            version.statistics.fail.add(time.monotonic_ns() - started_ns)
            raise
        version.statistics.count_success(started_ns, time.monotonic_ns())
        response.parameters = {"prediction_id": prediction_id, "variant": decision.variant, "route": decision.route}
        return response

    def _patience_ns(self, request: InferRequest) -> int:
        timeout_us = request.parameters.get("timeout")
        if timeout_us is None:
            return self._timeout_ns
        if type(timeout_us) is not int or timeout_us <= 0:
            raise InvalidRequest(f"parameters.timeout must be a positive number of microseconds, got {timeout_us!r}")
        return timeout_us * 1000


def _response(version: ModelVersion, request: InferRequest, positions: Sequence[int], answer: Answer) -> InferResponse:
    outputs = []
    for position in positions:
        array = answer[position]
        if array is not None:
            spec = version.signature.outputs[position]
            outputs.append(Tensor(spec.name, spec.datatype, array, version.output_parameters[position]))
    binary = NO_BINARY
    if request.outputs is not None:
        wanted = {output.name: output for output in request.outputs}
        outputs = [_classified(tensor, wanted[tensor.name].classification, version) for tensor in outputs]
        binary = frozenset(name for name, output in wanted.items() if _is_binary(output, request.binary_output))
    elif request.binary_output:
        binary = frozenset(tensor.name for tensor in outputs)
    return InferResponse(version.name, version.text, outputs, request.id, binary=binary)


def _classified(tensor: Tensor, classes: int, version: ModelVersion) -> Tensor:
    return classify(tensor, classes, version.labels.get(tensor.name, ())) if classes else tensor


def _is_binary(output: RequestedOutput, default: bool) -> bool:
    return default if output.binary is None else output.binary
