"""Binary tensors of [1, 3, 224, 224] (600 kB), against the bare server doing the same."""

from pathlib import Path

import numpy as np
import orjson

from loadtests import models, servers
from loadtests.report import report
from loadtests.rounds import alternate, line
from loadtests.wrk import Load

CONNECTIONS = 8


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """Binary in, binary out."""
    file = models.image(folder / "models")
    raw = np.random.default_rng(0).random((1, 3, 224, 224), np.float32).tobytes()
    tensor = {"name": "x", "shape": [1, 3, 224, 224], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    header = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    load = Load(
        header + raw, {"inference-header-content-length": str(len(header)), "content-type": "application/octet-stream"}
    )
    lines = []
    for name, sample, target in (("without records", "0%", 0.85), ("with full records, 0.8 MB each", "100%", 0.90)):
        place: tuple[Path, Path, dict[str, str], str] = folder / sample, folder / "models", {}, "image"
        with servers.bare(file, "binary") as bare, servers.gateway(*place, records={"sample": sample}) as gateway:
            found = alternate((bare, gateway), load, [CONNECTIONS], rounds, seconds)[CONNECTIONS]
        lines.append(line(f"{CONNECTIONS} connections, {name}, requests", "/s", found, lambda m: m.per_s, target, True))
    return report("binary", lines)
