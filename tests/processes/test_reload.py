"""An edit of the routing file takes effect by itself; a mistake in it changes nothing, and no request fails."""

import json
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from loadtests.client import Client, Seen
from tests.backends.onnx_models import looping
from tests.processes.flawed import children, command_of, gateway, kill, requests, until, workers
from tests.running import GatewayProcess
from tests.zoo import garbage

EDITS = 20
ENOUGH = 64  # answers, for half of them to be the candidate's: not by chance all of one version


def config(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/config").json()


def routing(weight: float = 50, candidate: int = 2, **more: Any) -> str:
    split = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": weight}]}
    return yaml.safe_dump({"models": {"flawed": {"stable": 1, "candidate": candidate, "split": split, **more}}})


def edit(running: GatewayProcess, text: str) -> None:
    """Write the file in place, as some editors do."""
    (running.config.parent / "routing.yaml").write_text(text)


def wait_for_generation(running: GatewayProcess, generation: int) -> None:
    until(lambda: config(running)["generation"] == generation, f"generation {generation}")
    until(lambda: config(running)["acknowledged"] == 2, "both workers")


def shares(running: GatewayProcess) -> set[str]:
    seen = Seen()
    with Client(("127.0.0.1", running.port), 8, requests(1.0)) as client:
        while len(seen.ms) < ENOUGH:
            client.keep_busy(0.3, seen)
    assert not seen.failures
    return set(seen.variants)


def test_edit_is_in_force_in_all_workers(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        assert shares(running) == {"stable", "candidate"}
        edit(running, routing(weight=0))
        wait_for_generation(running, 2)
        assert shares(running) == {"stable"}
        edit(running, routing(weight=100))
        wait_for_generation(running, 3)
        assert shares(running) == {"candidate"}
        assert config(running)["last_error"] is None


def test_file_swapped_by_symlink_as_kubernetes_does_is_read(tmp_path: Path) -> None:
    """..data is a symlink to a folder; routing.yaml points through it; an update replaces the symlink."""
    running = gateway(tmp_path)
    file = tmp_path / "routing.yaml"
    for number, weight in ((1, 50), (2, 0)):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "routing.yaml").write_text(routing(weight))
    (tmp_path / "..data").symlink_to("..1")
    file.unlink()
    file.symlink_to("..data/routing.yaml")
    with running:
        assert shares(running) == {"stable", "candidate"}
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").replace(tmp_path / "..data")
        wait_for_generation(running, 2)
        assert shares(running) == {"stable"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (routing(weight=101), "models.flawed.split.routes[0].weight"),
        (routing().replace("weight", "wieght"), "did you mean 'weight'"),
        (routing(candidate=9), "models.flawed: version 9: model 'flawed' has no version 9"),
        ("models: {flawed: {stable: 1", "line "),
        (routing(candidate=3), "models.flawed: version 3: "),
    ],
)
def test_mistake_in_the_file_changes_nothing_and_is_named(broken: GatewayProcess, text: str, says: str) -> None:
    edit(broken, text)
    until(lambda: says in (config(broken)["last_error"] or ""), f"an error that says {says}")
    assert config(broken)["generation"] == 1
    assert shares(broken) == {"stable", "candidate"}
    metrics = httpx.get(f"{broken.control_url}/metrics").text
    assert "gateway_config_last_reload_success 0.0" in metrics


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("broken")
    running = gateway(folder)
    (folder / "models" / "flawed" / "3").mkdir()
    garbage(folder / "models" / "flawed" / "3" / "model.onnx")
    with running:
        yield running


def test_version_added_after_the_edit_is_found(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        edit(running, routing(candidate=3, weight=100))
        until(lambda: "no version 3" in (config(running)["last_error"] or ""), "the error")
        shutil.copytree(tmp_path / "models" / "flawed" / "1", tmp_path / "models" / "flawed" / "3")
        wait_for_generation(running, 2)
        answers = {httpx.get(f"{running.url}/v2/models/flawed/versions/{v}/ready").status_code for v in (1, 3)}
        assert answers == {200}
        assert httpx.get(f"{running.url}/v2/models/flawed/versions/2/ready").status_code == 404


@pytest.mark.slow
def test_worker_started_during_an_edit_serves_the_new_configuration(tmp_path: Path) -> None:
    """It was started with the old configuration, and was not sent the new one."""
    models = tmp_path / "models"
    for version in (1, 2):
        looping(models / "slow" / str(version) / "model.onnx")
    turns: Any = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}]}
    (models / "slow" / "warmup.json").write_text(json.dumps(turns))
    everyone = {"split": {"routes": [{"name": "everyone", "weight": 100}]}}
    with GatewayProcess(tmp_path, models, {"models": {"slow": {"stable": 1}}}, server={"workers": 2}) as running:
        turns["inputs"][0]["data"] = [500_000]  # loading takes seconds from now on: longer than starting a worker
        (models / "slow" / "warmup.json").write_text(json.dumps(turns))
        edit(running, yaml.safe_dump({"models": {"slow": {"stable": 1, "candidate": 2, **everyone}}}))
        until(lambda: scratch(running), "the scratch process")
        until(lambda: not scratch(running), "its end, after which the workers load")
        turns["inputs"][0]["data"] = [1]
        (models / "slow" / "new.json").write_text(json.dumps(turns))  # for the one that now starts
        (models / "slow" / "new.json").replace(models / "slow" / "warmup.json")  # the others never read half of it
        kill(workers(running)[0])
        wait_for_generation(running, 2)
        assert config(running)["last_error"] is None
        url = f"{running.url}/v2/models/slow/infer"
        asked = [httpx.post(url, json=turns).headers["x-variant"] for _ in range(20)]
        assert set(asked) == {"candidate"}


def scratch(running: GatewayProcess) -> bool:
    """Whether a version is being tried."""
    return bool(trials_of(running))


def trials_of(running: GatewayProcess) -> list[int]:
    """The processes in which a version is being tried."""
    return [pid for pid in children(running.pid) if "gateway.backends.trial_child" in command_of(pid)]


def broken_forms(good: str, generator: random.Random) -> list[str]:
    """Truncated at a random place, misspelt, or naming a version that does not exist."""
    cut = good[: generator.randrange(20, 60)] + "["
    return [cut, good + "x: 1\n", good.replace("candidate: 2", "candidate: 8")]


@pytest.mark.slow
def test_many_edits_under_load_fail_no_request(tmp_path: Path) -> None:
    """Every third one is broken."""
    with gateway(tmp_path) as running:
        generator, seen, stop = random.Random(1), Seen(), threading.Event()

        def load() -> None:
            with Client(("127.0.0.1", running.port), 8, requests(1.0)) as client:
                while not stop.is_set():
                    client.keep_busy(0.1, seen)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            for number in range(EDITS):
                good = routing(weight=1 + number)
                if number % 3 == 2:
                    edit(running, generator.choice(broken_forms(good, generator)))
                    until(lambda: config(running)["last_error"] is not None, "the mistake is named")
                    assert "routing.yaml: " in config(running)["last_error"]
                else:
                    before = config(running)["revision"]
                    edit(running, good)
                    until(lambda: config(running)["revision"] != before, "a new revision")  # noqa: B023
                    assert config(running)["last_error"] is None
        finally:
            stop.set()
            thread.join()
        assert not seen.failures
        assert set(seen.variants) == {"stable", "candidate"}
