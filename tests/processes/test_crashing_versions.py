"""A model file that crashes the process that loads it: at the start, and by an edit."""

from pathlib import Path

import httpx

from tests.backends.onnx_models import crashing, needs_trap, place
from tests.processes.flawed import body, gateway, until, workers
from tests.processes.test_reload import config, edit, routing, shares

pytestmark = needs_trap


def test_candidate_that_crashes_on_loading_is_unavailable_after_the_start(tmp_path: Path) -> None:
    running = gateway(tmp_path)
    place(tmp_path / "models", "flawed", 2, crashing)
    with running:
        (out,) = config(running)["unavailable"]
        assert (out["model"], out["version"]) == ("flawed", 2)
        assert "SIGFPE" in out["reason"]
        assert httpx.post(f"{running.url}/v2/models/flawed/infer", content=body(1.0)).headers["x-variant"] == "stable"
        until(lambda: "version 2 is not served" in running.log, "the table, which follows readiness")


def test_edit_to_a_version_that_crashes_is_refused_without_losing_a_worker(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        place(tmp_path / "models", "flawed", 3, crashing)
        before = workers(running)
        edit(running, routing(candidate=3))
        until(lambda: "SIGFPE" in (config(running)["last_error"] or ""), "the error")
        assert "models.flawed: version 3: " in config(running)["last_error"]
        assert workers(running) == before
        assert shares(running) == {"stable", "candidate"}
