"""What the gateway costs on a model that costs nothing, against the bare server (JSON, one core each)."""

from pathlib import Path

import orjson

from loadtests import models, servers
from loadtests.report import report
from loadtests.rounds import alternate, line
from loadtests.wrk import Load

ROUTING = {
    "models": {
        "tiny": {
            "stable": 1,
            "candidate": 2,
            "split": {
                "routes": [
                    {"name": "pilot", "match": [{"customer": {"in": ["acme", "globex"]}}], "weight": 100},
                    {
                        "name": "eu",
                        "match": [{"modality": "image", "headers": {"x-region": {"prefix": "eu-"}}}],
                        "weight": 10,
                    },
                    {"name": "everyone", "weight": 5},
                ]
            },
        }
    }
}
ROW = [round(index / 7, 4) for index in range(64)]
BODY = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": ROW}]})
LOAD = Load(BODY, {"content-type": "application/json", "x-customer-id": "joe"})


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """One connection for latency, 32 for throughput."""
    file = models.tiny(folder / "models")
    with servers.bare(file) as bare, servers.gateway(folder, folder / "models", ROUTING, "tiny") as gateway:
        found = alternate((bare, gateway), LOAD, [1, 32], rounds, seconds)
    one, many = found[1], found[32]
    return report(
        "overhead",
        [
            line("32 connections, requests", "/s", many, lambda m: m.per_s, 0.80, True),
            line("1 connection, p50", "µs", one, lambda m: m.p50_us, 1.2, False),
            line("1 connection, p99", "µs", one, lambda m: m.p99_us, 1.5, False),
        ],
    )
