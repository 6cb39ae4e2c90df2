"""Health, metadata and statistics of the Open Inference Protocol."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import __version__
from gateway.backends.remote.client import RemoteBackend
from gateway.backends.version import ModelVersion
from gateway.errors import NotReady
from gateway.protocol.tensors import TensorSpec
from gateway.shm.tally import Totals
from gateway.web.responses import JsonResponse
from gateway.worker.http.infer import number_of
from gateway.worker.http.model_config import PLATFORM, REMOTE, config_of
from gateway.worker.http.shared_readiness import SharedReadiness
from gateway.worker.pipeline import Pipeline

SERVER_NAME: Final = "canary-gateway"
EXTENSIONS: Final = (
    "binary_tensor_data", "classification", "feedback", "model_configuration", "model_repository", "statistics",
)  # fmt: skip


class Metadata:
    """The read-only endpoints of the data plane."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._readiness = SharedReadiness()

    def routes(self) -> list[Route]:
        model = "/v2/models/{model}"
        pinned = model + "/versions/{version}"
        return [
            Route("/v2", self.server),
            Route("/v2/", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models/stats", self.all_statistics),
            *(Route(path, self.model) for path in (model, pinned)),
            *(Route(f"{path}/ready", self.model_ready) for path in (model, pinned)),
            *(Route(f"{path}/stats", self.statistics) for path in (model, pinned)),
            *(Route(f"{path}/config", self.config) for path in (model, pinned)),
        ]

    async def server(self, request: Request) -> Response:
        """The server's name, version and extensions."""
        return JsonResponse({"name": SERVER_NAME, "version": __version__, "extensions": EXTENSIONS})

    async def live(self, request: Request) -> Response:
        """Answers as long as the process runs."""
        return JsonResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        """Answers 503 before all workers listen and during a shutdown, else 200."""
        if self._pipeline.draining:
            raise NotReady("the gateway is shutting down")
        if not self._pipeline.serving():
            raise NotReady("the workers are starting")  # connections made now would all stay with this worker
        return JsonResponse({"ready": True})

    async def model(self, request: Request) -> Response:
        """The inputs and outputs of a version, by default of stable, and the versions that are served."""
        versions = self._versions(request)
        served = self._pipeline.served(request.path_params["model"])
        version = versions[0] if "version" in request.path_params else served.stable
        return JsonResponse(
            {
                "name": served.name,
                "versions": [str(version.number) for version in versions],
                "platform": REMOTE if version.remote else PLATFORM,
                "inputs": [_tensor(spec) for spec in version.signature.inputs],
                "outputs": [_tensor(spec) for spec in version.signature.outputs],
            }
        )

    async def config(self, request: Request) -> Response:
        """The configuration of a version, by default of stable, in Triton's form."""
        versions = self._versions(request)
        served = self._pipeline.served(request.path_params["model"])
        version = versions[0] if "version" in request.path_params else served.stable
        return JsonResponse(config_of(version, served.versions))

    async def model_ready(self, request: Request) -> Response:
        """Answers 404 if the model or version is not served, 503 during a shutdown and if the server of the version (by
        default of stable) does not have the model ready, else 200.
        """
        versions = self._versions(request)
        name = request.path_params["model"]
        version = versions[0] if "version" in request.path_params else self._pipeline.served(name).stable
        if isinstance(version.backend, RemoteBackend) and not await self._readiness.of(version.backend):
            raise NotReady(f"the server of version {version.number} of '{name}' does not have it ready")
        if self._pipeline.draining:
            raise NotReady("the gateway is shutting down")
        return JsonResponse({"name": request.path_params["model"], "ready": True})

    async def statistics(self, request: Request) -> Response:
        """Statistics of a version, or of all versions of a model, over all workers."""
        return JsonResponse({"model_stats": [self._counted(version) for version in self._versions(request)]})

    async def all_statistics(self, request: Request) -> Response:
        """Statistics of all versions of all models, over all workers."""
        models = self._pipeline.catalog.models
        versions = (version for name in sorted(models) for version in _ascending(models[name].versions.values()))
        return JsonResponse({"model_stats": [self._counted(version) for version in versions]})

    def _counted(self, version: ModelVersion) -> dict[str, Any]:
        return _statistics(version, *self._pipeline.catalog.totals(version))

    def _versions(self, request: Request) -> Sequence[ModelVersion]:
        """The version that the path names, or all that are served; raises NotFound."""
        name = request.path_params["model"]
        if "version" in request.path_params:
            return [self._pipeline.version(name, number_of(request.path_params["version"]))]
        return _ascending(self._pipeline.served(name).versions.values())


def _ascending(versions: Iterable[ModelVersion]) -> list[ModelVersion]:
    return sorted(versions, key=lambda version: version.number)


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _statistics(version: ModelVersion, totals: Totals, last_success_ns: int) -> dict[str, Any]:
    none = (0, 0)
    batches = totals.batches
    compute = sum(count for count, _ in batches.values()), sum(ns for _, ns in batches.values())
    return {
        "name": version.name,
        "version": version.text,
        "last_inference": _wall_ms(last_success_ns),
        "inference_count": totals.rows,
        "execution_count": compute[0],
        "inference_stats": {
            "success": _duration(totals.success),
            "fail": _duration(totals.fail),
            "queue": _duration((sum(totals.queue.counts), totals.queue.sum_ns)),
            "compute_input": _duration(none),
            "compute_infer": _duration(compute),
            "compute_output": _duration(none),
            "cache_hit": _duration(none),
            "cache_miss": _duration(none),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(none),
                "compute_infer": _duration(duration),
                "compute_output": _duration(none),
            }
            for size, duration in sorted(batches.items())
        ],
    }


def _duration(duration: tuple[int, int]) -> dict[str, int]:
    count, ns = duration
    return {"count": count, "ns": ns}


def _wall_ms(monotonic_ns: int) -> int:
    """The time in milliseconds since 1970; 0: never."""
    return (time.time_ns() - time.monotonic_ns() + monotonic_ns) // 1_000_000 if monotonic_ns else 0
