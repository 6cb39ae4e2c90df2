"""Loads and unloads that clients ask for are in the history: which files, by whom, from where."""

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends.onnx_models import place, scaling
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
get, post = partial(httpx.get, timeout=60), partial(httpx.post, timeout=60)
RELEASE: Any = {"stable": 1, "candidate": 2}


def test_loads_and_unloads_are_recorded_and_not_again_what_loads_the_same(tmp_path: Path) -> None:
    models = tmp_path / "models"
    place(models, "m", 1, scaling(1))
    place(models, "m", 2, scaling(2))
    place(models, "other", 1, scaling(1))
    with GatewayProcess(tmp_path, models, {"models": {"m": RELEASE, "other": {"stable": 1}}}) as running:

        def ask(what: str) -> None:
            assert post(f"{running.url}/v2/repository/models/m/{what}").status_code == 200

        def decisions() -> Any:
            return get(f"{running.control_url}/api/decisions").json()

        assert decisions() == [], "a start loads what the file says"
        ask("load")
        ask("load")
        (first,) = decisions()
        assert first["action"] == "load" and first["evidence"]["sha256"].keys() == {"1", "2"}
        place(models, "m", 2, scaling(3))
        ask("load")
        ask("unload")
        said = decisions()
        assert [one["action"] for one in said] == ["unload", "load", "load"]
        now, before = (one["evidence"]["sha256"] for one in said[1:])
        content = sha256((models / "m" / "2" / "model.onnx").read_bytes()).hexdigest()
        assert (now["1"], now["2"]) == (before["1"], content) and before["2"] != content
        assert {(one["model"], one["candidate"], one["by"], one["evidence"]["from"]) for one in said} == {
            ("m", 1, "local", "127.0.0.1")
        }
        assert said[1]["reason"] == f"loaded from disk: 1 ({now['1'][:12]}) and 2 ({content[:12]}), as a client asked"
        assert said[0]["reason"] == "unloaded, as a client asked: requests get 404 until it is loaded again"
