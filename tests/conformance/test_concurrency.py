"""Under 64 concurrent clients, whatever is batched together, each answer equals the same request's unbatched run."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

from gateway.backends.trial import LoadTrial, try_versions
from gateway.protocol.tensors import Array
from tests.running import GatewayProcess

CLIENTS = 64
REQUESTS_EACH = 1
Feeds = dict[str, Array]
Maker = Callable[[np.random.Generator], Feeds]


def floats(*shape: int) -> Maker:
    return lambda generator: {"x": generator.standard_normal(shape).astype(np.float32)}


def of_any_width(generator: np.random.Generator) -> Feeds:
    rows, width = (int(size) for size in generator.integers(1, 6, 2))
    return {"x": generator.standard_normal((rows, width)).astype(np.float32)}


def of_any_rows(width: int, name: str = "x") -> Maker:
    return lambda generator: {
        name: generator.standard_normal((int(generator.integers(1, 5)), width)).astype(np.float32)
    }


def two(generator: np.random.Generator) -> Feeds:
    rows = int(generator.integers(1, 4))
    return {name: generator.standard_normal((rows, 3)).astype(np.float32) for name in "ab"}


def of_three_types(generator: np.random.Generator) -> Feeds:
    rows = int(generator.integers(1, 4))
    return {
        "x": generator.standard_normal((rows, 3)).astype(np.float32),
        "count": generator.integers(0, 9, (rows, 1)),
        "name": generator.choice(np.array(["a", "é", ""], object), (rows, 1)),
    }


def with_state(generator: np.random.Generator) -> Feeds:
    rows = int(generator.integers(1, 4))
    return {
        "x": generator.standard_normal((rows, 4)).astype(np.float32),
        "state": generator.standard_normal((2, rows, 4)).astype(np.float32),
    }


CASES: dict[str, Maker] = {
    "doubling": of_any_rows(2),
    "summing": of_any_width,
    "centring": of_any_rows(3),
    "transposing": of_any_width,
    "total": of_any_rows(3),
    "fixed": floats(3, 2),
    "adding": two,
    "mixed": of_three_types,
    "recurrent": with_state,
    "scalar": lambda generator: {
        **floats(2, 3)(generator),
        "factor": np.array(generator.standard_normal(), np.float32),
    },
    "defaulted": of_any_rows(3),
    "zip_map_str": of_any_rows(3, "X"),
    "identity_bytes": lambda generator: {"x": generator.choice(np.array(["a", "é客", ""], object), (2, 3))},
    "words": lambda generator: {"text": generator.choice(np.array(["a b", "c", "d e f"], object), (2,))},
    "gathering": lambda generator: {"i": generator.integers(0, 4, (int(generator.integers(1, 5)),))},
}
DATATYPES = {"f": "FP32", "i": "INT64", "O": "BYTES"}


def document(feeds: Feeds) -> Any:
    return {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": DATATYPES[array.dtype.kind],
                "data": array.ravel().tolist(),
            }
            for name, array in feeds.items()
        ]
    }


def matrix(result: Any) -> Array:
    """A result of ONNX Runtime as the gateway serves it: a sequence of maps as a matrix."""
    return np.array([list(row.values()) for row in result], np.float32) if isinstance(result, list) else result


def same(output: Any, wanted: Array) -> bool:
    if output["shape"] != list(wanted.shape):
        return False
    if wanted.dtype.kind == "f":
        return bool(np.allclose(np.array(output["data"], np.float32), wanted.ravel(), rtol=1e-5, atol=1e-6))
    return output["data"] == wanted.ravel().tolist()


@pytest.mark.slow
def test_concurrent_answers_equal_unbatched_runs(zoo_gateway: GatewayProcess, zoo_models: Path) -> None:
    sessions = {
        name: onnxruntime.InferenceSession(
            str(zoo_models / name / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
        )
        for name in CASES
    }
    names = sorted(CASES)

    async def one_client(client: httpx.AsyncClient, number: int) -> list[str]:
        wrong = []
        generator = np.random.default_rng(number)
        for turn in range(REQUESTS_EACH * len(names)):
            name = names[(turn + number % 2) % len(names)]  # two models at a time, so that batches form
            feeds = CASES[name](generator)
            answer = await client.post(f"/v2/models/{name}/infer", json=document(feeds))
            wanted = [matrix(result) for result in sessions[name].run(None, feeds)]
            outputs = answer.json().get("outputs", [])
            if len(outputs) != len(wanted) or not all(map(same, outputs, wanted)):
                wrong.append(f"{name}: {answer.text[:300]}")
        return wrong

    async def scenario() -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=zoo_gateway.url, limits=limits, timeout=60) as client:
            wrong = await asyncio.gather(*(one_client(client, number) for number in range(CLIENTS)))
        assert [message for messages in wrong for message in messages] == []

    asyncio.run(scenario())
    statistics = httpx.get(f"{zoo_gateway.url}/v2/models/stats").json()["model_stats"]
    batches = {entry["name"]: {batch["batch_size"] for batch in entry["batch_stats"]} for entry in statistics}
    largest = {name: max(sizes, default=0) for name, sizes in batches.items()}
    assert largest["doubling"] > 4, "requests for a model that can be batched never shared a batch"
    assert largest["summing"] > 5
    assert largest["mixed"] > 3
    for name in ("centring", "recurrent", "scalar", "fixed", "transposing", "total"):
        assert batches[name] == {1}, f"{name} must not be batched"


@pytest.mark.parametrize("name", ["centring", "recurrent", "total"])
def test_trial_says_why_a_model_is_not_batched(zoo_models: Path, name: str) -> None:
    (verdict,) = try_versions(zoo_models, [LoadTrial(name, 1, 1)])
    assert verdict.error == ""
    assert verdict.unbatchable_reason
