"""Which workers left by a killed control process belong to this gateway."""

import json
import subprocess
import sys
from pathlib import Path

from gateway.control.pool.orphans import OrphanedWorkers
from gateway.shm.process_identity import start_ticks

USES = "import sys, pathlib; from gateway.shm.segment import SharedSegment; "
USES += "held = SharedSegment.create(pathlib.Path(sys.argv[1]), 8, 1); print(flush=True); input()"


def test_keep_those_on_ignores_workers_on_memory_of_another_gateway(tmp_path: Path) -> None:
    command = [sys.executable, "-c", USES, str(tmp_path / "canary-gateway-theirs.1-events-0.ring")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        (tmp_path / "workers.json").write_text(json.dumps([[worker.pid, start_ticks(worker.pid)]]))
        copied, own = OrphanedWorkers(tmp_path / "workers.json"), OrphanedWorkers(tmp_path / "workers.json")
        copied.keep_if_mapped("canary-gateway-ours")
        copied.terminate()
        assert (len(copied), worker.poll()) == (0, None)
        own.keep_if_mapped("canary-gateway-theirs")
        assert len(own) == 1
        own.terminate()
        assert worker.wait(10) != 0
