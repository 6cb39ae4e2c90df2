"""The facts of a remote version, from what its server says of the model."""

import math
from collections.abc import Mapping
from typing import Any, Final

from gateway.backends.batching_rules import BatchingRules
from gateway.backends.loop_limits import LoopLimits
from gateway.backends.prediction_kinds import predictions_of
from gateway.backends.remote.server import Server
from gateway.backends.remote.signature import RemoteSignature
from gateway.backends.version_facts import VersionFacts, labels_of
from gateway.backends.warmup import WarmUp
from gateway.errors import ModelUnavailable
from gateway.protocol.tensors import DATATYPES, TensorSpec
from gateway.settings.model import ModelSettings

ELSEWHERE: Final = "it runs on another server"


async def facts_of(server: Server, settings: ModelSettings) -> tuple[VersionFacts, bool]:
    """The facts, and whether the server takes binary tensors. Raises ServerUnreachable, or ModelUnavailable if the
    model there cannot be served.
    """
    metadata, binary = await server.metadata()
    try:
        signature = RemoteSignature(
            *([_spec(one) for one in metadata.get(part) or ()] for part in ("inputs", "outputs"))
        )
    except (TypeError, KeyError, ValueError) as error:
        raise ModelUnavailable(f"{server} describes its inputs and outputs in an unknown form: {error}") from None
    for part in ("inputs", "outputs"):
        if not getattr(signature, part):
            remedy = f"declare them there (MLServer: `{part}` in model-settings.json)"
            raise ModelUnavailable(f"{server} declares no {part}; {remedy}")
    labels = labels_of(settings, signature)
    shown = [None] * len(signature.outputs)
    return VersionFacts(
        signature=signature,
        shown=shown,
        providers=(str(server),),
        warning="",
        settings=settings,
        warm_up=WarmUp(ELSEWHERE, math.nan, math.nan),
        sha256="",
        rules=BatchingRules(concurrency=server.settings.connections),
        loop_limits=LoopLimits(ELSEWHERE),
        labels=labels,
        predictions=predictions_of(settings, signature, shown, labels),
    ), binary


def _spec(found: Mapping[str, Any]) -> TensorSpec:
    name, datatype, shape = found["name"], found["datatype"], found["shape"]
    if type(name) is not str or datatype not in DATATYPES:
        raise ValueError(f"tensor {name!r:.60} of datatype {datatype!r:.60}")
    if type(shape) is not list or not all(type(size) is int for size in shape):
        raise ValueError(f"tensor '{name:.60}' of shape {shape!r:.60}")
    return TensorSpec(name, datatype, tuple(-1 if size < 0 else size for size in shape))
