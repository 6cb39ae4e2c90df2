"""Commands of the control plane: each takes effect, is recorded with who and why, and changes nothing on failure."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.client import Client, Seen
from tests.processes.flawed import SPLIT, gateway, release, requests, until
from tests.processes.test_reload import ENOUGH
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

ROUTING = """\
# What meets whom.
models:
  flawed:          # the only one
    stable: 1
    candidate: 2
    split:
      stickiness: prediction
      routes:
        - name: everyone   # no match
          weight: 50
    rescue: {timeout: 1s}  # for whichever comes next
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[GatewayProcess]:
    started = gateway(tmp_path)
    (tmp_path / "routing.yaml").write_text(ROUTING)
    with started:
        yield started


def post(running: GatewayProcess, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{running.control_url}/api/{path}", json=body, timeout=30)


def decisions(running: GatewayProcess, **query: Any) -> Any:
    return httpx.get(f"{running.control_url}/api/decisions", params=query).json()


def variants(running: GatewayProcess) -> set[tuple[str, ...]]:
    seen = Seen()
    with Client(("127.0.0.1", running.port), 8, requests(1.0)) as client:
        while len(seen.ms) < ENOUGH:
            client.keep_busy(0.3, seen)
    assert not seen.failures
    return set(seen.variants)


def file_of(running: GatewayProcess) -> Path:
    return running.config.parent / "routing.yaml"


def test_promotion_is_in_force_when_the_answer_arrives(running: GatewayProcess) -> None:
    tried = post(running, "releases/flawed/promote", dry_run=True).json()
    assert (tried["decision"], file_of(running).read_text()) == (None, ROUTING)
    done = post(running, "releases/flawed/promote", reason="better").json()
    assert done["difference"] == tried["difference"]
    assert "+    stable: 2\n" in done["difference"]
    told = release(running)
    assert (told["stable"], told["candidate"], told["routes"]) == (2, None, [])
    assert variants(running) == {"stable"}
    text = file_of(running).read_text()
    assert text == (
        "# What meets whom.\nmodels:\n  flawed:          # the only one\n    stable: 2\n"
        "    rescue: {timeout: 1s}  # for whichever comes next\n"
    )


def test_decisions_record_who_changed_what_and_why(running: GatewayProcess) -> None:
    post(running, "releases/flawed/weight", route="everyone", percent=12.5, reason="more")
    assert release(running)["routes"][0]["in_force_percent"] == 12.5
    post(running, "releases/flawed/stop", reason="enough")
    post(running, "releases/flawed/resume")
    resumed, stopped, weighted = decisions(running)
    assert (weighted["action"], weighted["by"], weighted["reason"]) == ("weight", "local", "more")
    evidence = weighted["evidence"]
    assert (evidence["from"], evidence["percent_before"], evidence["percent"]) == ("127.0.0.1", 50, 12.5)
    assert "-          weight: 50\n+          weight: 12.5\n" in evidence["difference"]
    assert (running.config.parent / "state" / "history" / evidence["kept"]).read_text() == ROUTING
    assert (stopped["reason"], stopped["evidence"]) == ("enough", {"from": "127.0.0.1"})
    assert resumed["reason"] == "no reason given"
    assert decisions(running, limit=1) == [resumed]
    assert decisions(running, model="flawed", limit=2) == [resumed, stopped]
    assert decisions(running, model="other") == []
    assert "limit" in decisions(running, limit=0)["error"]


def test_order_for_another_candidate_than_the_current_one_is_refused(running: GatewayProcess) -> None:
    for order, body in (("promote", {}), ("weight", {"route": "everyone", "percent": 1})):
        refused = post(running, f"releases/flawed/{order}", candidate=3, **body)
        assert (refused.status_code, "is now version 2, not 3" in refused.json()["error"]) == (409, True)
    assert file_of(running).read_text() == ROUTING
    assert post(running, "releases/flawed/promote", candidate=2).status_code == 200


def test_promotion_of_a_stopped_candidate_is_refused(running: GatewayProcess) -> None:
    post(running, "releases/flawed/stop")
    refused = post(running, "releases/flawed/promote")
    assert (refused.status_code, "resume it first" in refused.json()["error"]) == (409, True)
    assert file_of(running).read_text() == ROUTING


def test_edit_is_refused_while_the_file_on_disk_is_not_in_force(running: GatewayProcess) -> None:
    broken = ROUTING.replace("stable: 1", "stabel: 1")
    file_of(running).write_text(broken)
    until(lambda: "stabel" in post(running, "releases/flawed/promote").json()["error"], "the mistake is seen")
    assert post(running, "releases/flawed/promote").status_code == 409
    assert file_of(running).read_text() == broken


def test_edit_of_an_unwritable_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Stands for a ConfigMap, mounted read-only. Root ignores permissions, so the name of the new file is taken."""
    started = gateway(tmp_path)
    (tmp_path / "routing.yaml").write_text(ROUTING)
    (tmp_path / ".routing.yaml.new").mkdir()
    with started:
        refused = post(started, "releases/flawed/promote")
        assert (refused.status_code, "cannot be written" in refused.json()["error"]) == (409, True)
        assert release(started)["candidate"] == 2
    assert file_of(started).read_text() == ROUTING


def test_edit_is_refused_where_the_previous_text_cannot_be_kept(tmp_path: Path) -> None:
    started = gateway(tmp_path)
    (tmp_path / "routing.yaml").write_text(ROUTING)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "history").touch()
    with started:
        refused = post(started, "releases/flawed/promote")
        assert (refused.status_code, "nothing was changed" in refused.json()["error"]) == (409, True)
    assert file_of(started).read_text() == ROUTING


def test_promotion_keeps_a_symlink_and_the_file_mode(tmp_path: Path) -> None:
    started = gateway(tmp_path)
    target = tmp_path / "elsewhere.yaml"
    target.write_text(ROUTING)
    os.chmod(target, 0o640)
    file_of(started).unlink()
    file_of(started).symlink_to(target)
    with started:
        assert post(started, "releases/flawed/weight", route="everyone", percent=1).status_code == 200
    assert file_of(started).is_symlink()
    assert target.read_text() == ROUTING.replace("weight: 50", "weight: 1")
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("releases/nothing/promote", {}, 404, "there is no model 'nothing'; there are flawed"),
        ("releases/flawed/promote", {"dryrun": True}, 400, "did you mean 'dry_run'"),
        ("releases/flawed/promote", {"reason": "x" * 1001}, 400, "reason: "),
        ("releases/flawed/weight", {"route": "everyone", "percent": 101}, 400, "percent: "),
        ("releases/flawed/weight", {"route": "everyone"}, 400, "'percent' is missing"),
        ("releases/flawed/weight", {"route": "nobody", "percent": 1}, 409, "it has everyone"),
        ("explain", {"model": "nothing"}, 404, "there is no model 'nothing'"),
        ("explain", {"model": "flawed", "headers": {"a": 1}}, 400, "headers.a: must be text"),
    ],
)
def test_invalid_order_is_refused_with_the_reason(
    still: GatewayProcess, path: str, body: Any, status: int, says: str
) -> None:
    refused = post(still, path, **body)
    assert (refused.status_code, says in refused.json()["error"]) == (status, True), refused.text
    assert file_of(still).read_text() == ROUTING


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    started = gateway(tmp_path_factory.mktemp("still"))
    file_of(started).write_text(ROUTING)
    with started:
        yield started


def test_explanation_takes_a_stop_into_account(still: GatewayProcess) -> None:
    assert SPLIT["stickiness"] == "prediction"
    before = post(still, "explain", model="flawed", key="p-1").json()
    assert (before["route"], before["weight_ppm"], before["key"]) == ("everyone", 500_000, "p-1")
    post(still, "releases/flawed/stop")
    stopped = post(still, "explain", model="flawed", key="p-1").json()
    assert (stopped["variant"], stopped["weight_ppm"]) == ("stable", 0)
    assert "the candidate is stopped" in stopped["why"]
    post(still, "releases/flawed/resume")
