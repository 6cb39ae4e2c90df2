"""A request with NaN as a bare number, which is not JSON: its record is JSON, and can be exported and replayed."""

import json
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from tests.backends import onnx_models
from tests.offline.dataset.test_commands import command
from tests.processes.recorded import records
from tests.running import GatewayProcess

SENT = b'{"id": "NaN", "inputs": [\n{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [NaN, -Infinity]}]}'
SIZED = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [Infinity, 1]}]}'
RAW = {"inference-header-content-length": str(len(SIZED)), "x-customer-id": "sized"}


def gateway_with_inputs(folder: Path, inputs: str) -> GatewayProcess:
    """A gateway that has answered both requests, and ended."""
    onnx_models.doubling(folder / "models" / "doubling" / "1" / "model.onnx")
    running = GatewayProcess(folder, folder / "models", records={"inputs": inputs})
    with running, httpx.Client(base_url=running.url) as client:
        for body, headers in ((SENT, {"x-customer-id": "plain"}), (SIZED, RAW)):
            answer = client.post("/v2/models/doubling/infer", content=body, headers=headers)
            assert answer.status_code == 200
    return running


def lines(running: GatewayProcess) -> dict[str, Any]:
    """The records by customer, each read by a strict parser."""
    return {line["customer"]: line for line in records(running.config.parent)}


@pytest.mark.slow
def test_records_with_nan_can_be_exported_and_replayed(tmp_path: Path) -> None:
    running = gateway_with_inputs(tmp_path, "full")
    recorded = lines(running)
    assert recorded["plain"]["request"]["inputs"][0]["data"] == ["NaN", "-Infinity"]
    assert recorded["sized"]["request"]["inputs"][0]["data"] == ["Infinity", 1]
    command(running.config, "export", "doubling", "--out", str(tmp_path / "parquet"))
    command(running.config, "export", "doubling", "--out", str(tmp_path / "jsonl"), "--format", "jsonl")
    table = pl.read_parquet(tmp_path / "parquet" / "**" / "*.parquet")
    assert table.height == 2
    values = table.filter(pl.col("customer") == "plain")["input_x"].item().to_list()
    assert (math.isnan(values[0]), values[1]) == (True, -math.inf)
    replayed = json.loads(command(running.config, "replay", "doubling", "--version", "1", "--json").stdout)
    assert (replayed["replayed"], replayed["answered_by"][0]["exact"]) == (2, 2), replayed


@pytest.mark.slow
def test_request_hash_is_that_of_the_body_as_received(tmp_path: Path) -> None:
    recorded = lines(gateway_with_inputs(tmp_path, "hash"))
    assert recorded["plain"]["request_sha256"] == sha256(SENT).hexdigest()
    assert recorded["sized"]["request_sha256"] == sha256(SIZED).hexdigest()
