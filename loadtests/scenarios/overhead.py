"""What the gateway costs on a model that costs nothing, with everything recorded, against the bare server (JSON).

Each has one core, on which the gateway's control process and its writer run too.
"""

from pathlib import Path
from typing import Any

import orjson

from loadtests import models, servers
from loadtests.report import report
from loadtests.rounds import alternate, line
from loadtests.wrk import Load

ROUTING: dict[str, Any] = {
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
COMPARISONS = [
    {"name": "errors", "metric": "failures"},
    {"name": "accuracy", "metric": "wrong_feedback"},
    {"name": "drift", "metric": "predicted_class"},
]
SLOW = {"name": "slow", "metric": "slow_requests", "threshold": "250ms"}  # stable then runs in a thread too
ROW = [round(index / 7, 4) for index in range(64)]
BODY = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": ROW}]})
JSON = {"content-type": "application/json"}
LOAD = Load(BODY, {**JSON, "x-customer-id": "joe"})  # who never meets the candidate
SPREAD = Load(BODY, JSON, customers=1000)


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """One connection for latency, 32 for throughput; then 32 with a ramp, a mirror and guards. A thousand customers,
    of whom one in twenty meets the candidate; beside it one who never does.
    """
    file = models.tiny(folder / "models")
    (folder / "models" / "tiny" / "model.yaml").write_text("prediction: {output: y}\n")
    with servers.bare(file) as bare:
        with servers.gateway(folder / "plain", folder / "models", ROUTING, "tiny") as gateway:
            found = alternate((bare, gateway), SPREAD, [1, 32], rounds, seconds)
            (joe,) = alternate((bare, gateway), LOAD, [32], rounds, seconds).values()
        one, many = found[1], found[32]
        lines = [
            line("32 connections, requests", "/s", many, lambda m: m.per_s, 0.90, True),
            line("32 connections, one customer, stable's, requests", "/s", joe, lambda m: m.per_s, 0.90, True),
            line("1 connection, p50", "µs", one, lambda m: m.p50_us, 1.15, False),
            line("1 connection, p99", "µs", one, lambda m: m.p99_us, 1.5, False),
        ]
        for name, comparisons in (("with guards", COMPARISONS), ("and slow_requests compared", [*COMPARISONS, SLOW])):
            with servers.gateway(folder / name, folder / "models", guarded(comparisons), "tiny") as gateway:
                found = alternate((bare, gateway), SPREAD, [32], rounds, seconds)
            lines.append(line(f"32 connections, {name}, requests", "/s", found[32], lambda m: m.per_s, 0.85, True))
    return report("overhead", lines)


def guarded(comparisons: list[dict[str, str]]) -> dict[str, Any]:
    """The same rules, whose last weight is a ramp's, with a mirror, a limit and these comparisons."""
    release = ROUTING["models"]["tiny"]
    *pinned, everyone = release["split"]["routes"]
    limit = {"name": "latency", "metric": "candidate.latency_p99_ms", "above": 1000}
    more = {
        "split": {"routes": [*pinned, {**everyone, "weight": "ramp"}]},
        "ramp": {"weights": [5, 100], "interval": "1h"},
        "mirror": {"weight": 1},
        "guards": {"limits": [limit], "comparisons": comparisons},
    }
    return {"models": {"tiny": {**release, **more}}}
