"""What a whole gateway logs with `server.log: json`: every line of every process is an entry."""

import json
import socket
from pathlib import Path
from typing import Any

import httpx

from tests.processes.flawed import gateway, kill, metric, until, workers
from tests.running import GatewayProcess

HOSTILE = 'a\n{"level": "info", "message": "forged", "role": "control"}\x1b[2J'


def entries(running: GatewayProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.log.splitlines()]


def test_every_log_line_of_every_process_is_a_json_entry(tmp_path: Path) -> None:
    running = gateway(tmp_path, server={"log": "json"})
    with running:
        httpx.post(f"{running.control_url}/api/releases/flawed/stop", json={"reason": "a test"}).raise_for_status()
        (tmp_path / "routing.yaml").write_text(
            f"models: {{{json.dumps(HOSTILE)}: {{stable: 1}}, flawed: {{stabel: 1}}}}"
        )
        until(lambda: metric(running, "gateway_config_last_reload_success") == 0, "the broken edit was read")
        with socket.create_connection(("127.0.0.1", running.port)) as raw:
            raw.sendall(b"not http\r\n\r\n")
            raw.recv(4096)
        kill(workers(running)[0])
        until(lambda: metric(running, "gateway_worker_restarts_total") == 1, "a new worker")
    logged = entries(running)
    (served,) = (entry for entry in logged if entry["message"].startswith("serving "))
    assert f"serving {running.url}/v2 with 2 workers; control plane at {running.control_url}" == served["message"]
    (stopped,) = (entry for entry in logged if "is stopped by" in entry["message"])
    assert stopped["message"].endswith(": a test")
    assert [entry["level"] for entry in logged if "stabel" in entry["message"]] == ["error"]
    assert [entry["level"] for entry in logged if "ended with -9" in entry["message"]] == ["warning"]
    (refused,) = (entry for entry in logged if entry["role"] == "worker")
    assert (refused["message"], refused["worker"] in (0, 1)) == ("Invalid HTTP request received.", True)
    assert all(entry["message"] != "forged" for entry in logged)
