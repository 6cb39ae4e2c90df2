"""Memory used while loading is returned: a thousand small models must not take gigabytes."""

import subprocess
import sys
from pathlib import Path

from loadtests import models

VERSIONS = 24
MOST_KIB = 2500  # for each; some 1,200 are the session's own, and before it was nearly 6,000
LOADS = f"""
import asyncio, sys
from pathlib import Path
from gateway.worker.models.loader import Loader
from gateway.backends import shared_measurements
from gateway.backends.repository import Repository
from tests.deployed import WorkerBoards

shared_measurements.MIN_AGE_NS = 10**18  # each load measures anew

def resident_kib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

async def load():
    boards = WorkerBoards()
    loader = Loader(Repository(Path(sys.argv[1])), boards.state, {{}})
    kept = [await loader.load("m", 1)]
    await loader.trim_memory()
    before = resident_kib()
    kept += [await loader.load("m", 1) for _ in range({VERSIONS})]
    await loader.trim_memory()
    print((resident_kib() - before) / {VERSIONS})

asyncio.run(load())
"""


def test_loading_a_small_version_keeps_little_memory(tmp_path: Path) -> None:
    models.tiny(tmp_path, "m")
    told = subprocess.run([sys.executable, "-c", LOADS, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(told.stdout) < MOST_KIB
