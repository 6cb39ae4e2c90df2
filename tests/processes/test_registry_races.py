"""Aliases that move, and releases that change, while a version of the registry is being fetched or named."""

import io
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.registry.mlflow_client import ModelVersion
from gateway.registry.version_archive import origin_of
from tests.processes.flawed import until as within
from tests.processes.test_registry import decisions, edit, in_registry, note, order, release, versions
from tests.registry.small_server import LOGGED, Handler, SmallRegistry
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).parents[2] / "models" / "digits"
MODELS = ("promoted", "hand", "named", "stopped", "between", "odd", "tagless", "fine", "twin", "unbound", "foreign")
FOLLOWED = ("back", "given-up", "agreed")
Rig = tuple["Registry", GatewayProcess]


class Registry(SmallRegistry):
    """Aliases and tags by model. `held`: models whose files do not arrive until `go` is set; `asked`: one is asked for.
    `before`: what to do before a model's aliases are answered.
    """

    def __init__(self) -> None:
        super().__init__(**{"model.onnx": (DIGITS / "2" / "model.onnx").read_bytes()})
        self.of: dict[str, dict[str, str]] = {name: {"champion": "1"} for name in (*MODELS, *FOLLOWED)}
        self.before: dict[str, Any] = {}
        self.held: set[str] = set()
        self.asked, self.go = threading.Event(), threading.Event()
        self.answers = {
            "registered-models/get": self.answer_aliases,
            "model-versions/get": self.answer_version,
            "get-artifact": self.answer_file,
        }

    def answer_aliases(self, handler: Handler, query: dict[str, str]) -> None:
        name = query["name"]
        if name in self.before:
            self.before[name]()
        aliases = [{"alias": alias, "version": version} for alias, version in self.of[name].items()]
        handler.say({"registered_model": {"name": name, "aliases": aliases}})

    def answer_version(self, handler: Handler, query: dict[str, str]) -> None:
        tags = self.tags.get(f"{query['name']} {query['version']}", {})
        said = {**query, "source": f"models:/{LOGGED}", "tags": [{"key": key, "value": tags[key]} for key in tags]}
        handler.say({"model_version": said})

    def answer_file(self, handler: Handler, query: dict[str, str]) -> None:
        if query["name"] in self.held and query["path"] == "model.onnx":
            self.asked.set()
            self.go.wait(120)
        handler.send(self.files[query["path"]])

    def hold(self, model: str) -> None:
        self.held, self.asked, self.go = {model}, threading.Event(), threading.Event()

    def write(self, method: str, what: str, said: dict[str, str]) -> bool:
        if what.endswith("-tag"):
            return super().write(method, what, {**said, "version": f"{said['name']} {said['version']}"})
        if method == "DELETE":
            return self.of[said["name"]].pop(said["alias"], None) is not None
        self.of[said["name"]][said["alias"]] = said["version"]
        return True


def until(condition: Callable[[], bool], what: str) -> None:
    within(condition, what, 60.0)


def started(folder: Path, registry: Registry, names: tuple[str, ...], follow: str, poll: str = "1s") -> GatewayProcess:
    for name in names:
        shutil.copytree(DIGITS / "1", folder / "models" / name / "1")
        shutil.copy(DIGITS / "model.yaml", folder / "models" / name)
    routing = {"models": {name: {"stable": 1, "registry": name} for name in names}}
    settings = {"registry": {"mlflow": {"url": registry.url, "poll": poll, "weight": 50, "follow": follow}}}
    return GatewayProcess(folder, folder / "models", routing, **settings)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("registry")
    with Registry() as registry, started(folder, registry, MODELS, "challenger") as gateway:
        yield registry, gateway
        registry.go.set()


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("followed")
    with Registry() as registry, started(folder, registry, FOLLOWED, "champion") as gateway:
        yield registry, gateway
        registry.go.set()


def propose(gateway: GatewayProcess, model: str, version: int, **files: bytes) -> int:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(DIGITS / "2" / "model.onnx", "model.onnx")
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return httpx.post(
        f"{gateway.control_url}/api/releases/{model}/propose",
        params={"version": version, "replace": "true"},
        content=packed.getvalue(),
        headers={"content-type": "application/x-tar"},
        timeout=60,
    ).status_code


def candidate_in_file(gateway: GatewayProcess, model: str) -> Any:
    entry = yaml.safe_load((gateway.config.parent / "routing.yaml").read_text())["models"][model]
    return entry.get("candidate")


def has_candidate(rig: Rig, model: str, version: int) -> None:
    registry, gateway = rig
    registry.of[model]["challenger"] = str(version)
    until(lambda: versions(gateway, model) == (1, version), "the challenger is the candidate")


def test_a_champion_promotes_no_candidate_but_the_one_that_it_names(rig: Rig) -> None:
    registry, gateway = rig
    has_candidate(rig, "promoted", 2)
    moved = threading.Event()

    def move_while_3_is_applied() -> None:
        """Answers only when the file names 3, which is not in force yet."""
        if registry.of["promoted"]["challenger"] != "3" or "is being fetched" not in note(gateway, "promoted"):
            return
        end = time.monotonic() + 8  # the gateway waits 10 s for an answer
        while candidate_in_file(gateway, "promoted") == 2 and time.monotonic() < end:
            time.sleep(0.002)
        if candidate_in_file(gateway, "promoted") == 3:
            registry.of["promoted"]["champion"] = "2"
            moved.set()

    registry.before["promoted"] = move_while_3_is_applied
    registry.of["promoted"]["challenger"] = "3"
    until(moved.is_set, "the champion is moved")
    until(lambda: in_registry(gateway, "promoted")["champion"] == 2, "that is seen")
    until(lambda: "champion is version 2" in note(gateway, "promoted"), "it is shown")
    assert versions(gateway, "promoted") == (1, 3)
    assert decisions(gateway, "promoted") == ["propose 2 by mlflow", "propose 3 by mlflow"]


def test_a_promotion_by_hand_makes_no_candidate_stable_but_the_one_that_it_names(rig: Rig) -> None:
    _, gateway = rig
    assert propose(gateway, "hand", 50) == 200
    proposing = threading.Thread(target=propose, args=(gateway, "hand", 51))
    proposing.start()
    until(lambda: candidate_in_file(gateway, "hand") == 51, "the file names it")
    assert order(gateway, "hand", "promote", candidate=50) == 409
    proposing.join()
    assert versions(gateway, "hand") == (1, 51)


def test_a_candidate_that_a_person_names_during_a_fetch_is_not_replaced(rig: Rig) -> None:
    registry, gateway = rig
    has_candidate(rig, "named", 2)
    registry.hold("named")
    registry.of["named"]["challenger"] = "3"
    until(registry.asked.is_set, "version 3 is being fetched")
    assert propose(gateway, "named", 99) == 200, "nor does the fetch keep it waiting"
    registry.go.set()
    until(lambda: "waits: candidate 99 is under way" in note(gateway, "named"), "the challenger waits")
    assert versions(gateway, "named") == (1, 99)


def test_a_stop_during_a_fetch_holds_the_version_back(rig: Rig) -> None:
    registry, gateway = rig
    has_candidate(rig, "stopped", 2)
    registry.hold("stopped")
    registry.of["stopped"]["challenger"] = "3"
    until(registry.asked.is_set, "version 3 is being fetched")
    assert order(gateway, "stopped", "stop") == 200
    until(lambda: "before candidate 2 was stopped" in note(gateway, "stopped"), "it is held back")
    registry.go.set()
    until(lambda: "'stopped': version 3 could not be brought" in gateway.log, "the fetch has ended")
    assert versions(gateway, "stopped") == (1, 2)


def test_a_stop_after_the_aliases_were_asked_for_holds_the_version_back(rig: Rig) -> None:
    registry, gateway = rig
    has_candidate(rig, "between", 2)
    assert order(gateway, "between", "stop") == 200
    until(lambda: "gateway.stopped" in registry.tags.get("between 2", {}), "the stop is a tag")
    asked, go = threading.Event(), threading.Event()

    def move_once_it_is_resumed() -> None:
        if not release(gateway, "between")["stopped"]:
            registry.of["between"]["challenger"] = "3"

    def delete(handler: Handler, query: dict[str, str]) -> None:
        asked.set()
        go.wait(120)
        handler.say({})

    registry.before["between"] = move_once_it_is_resumed
    registry.answers["delete-tag"] = delete
    try:
        assert order(gateway, "between", "resume") == 200
        until(asked.is_set, "the tag is being removed, and the aliases are read")
        assert order(gateway, "between", "stop") == 200
    finally:
        del registry.answers["delete-tag"]
        go.set()
    until(lambda: "before candidate 2 was stopped" in note(gateway, "between"), "it is held back")
    assert versions(gateway, "between") == (1, 2)


def test_what_is_odd_about_one_model_or_a_tag_keeps_no_alias_from_being_obeyed(rig: Rig) -> None:
    registry, gateway = rig
    has_candidate(rig, "tagless", 2)

    def too_long() -> None:
        registry.of["odd"] = {"x" * (1 << 20): "1"}

    registry.before["odd"] = too_long
    until(lambda: "larger than" in note(gateway, "odd"), "that is shown")
    registry.answers["set-tag"] = lambda handler, query: handler.say({"message": "full"}, 500)
    try:
        assert order(gateway, "tagless", "stop") == 200
        until(lambda: "set-tag answers 500" in note(gateway, "tagless"), "the tag cannot be written")
        registry.files["model.onnx"] += b"\x32\x05other"  # its text of documentation: no copy of what is stopped
        has_candidate(rig, "tagless", 3)
        assert httpx.get(f"{gateway.control_url}/api/config").json()["registry"]["error"] is None
    finally:
        del registry.answers["set-tag"], registry.before["odd"]
        registry.of["odd"] = {}


def test_a_resume_removes_no_tag_of_another_gateway(rig: Rig) -> None:
    registry, gateway = rig
    has_candidate(rig, "foreign", 2)
    registry.tags["foreign 2"] = {"gateway.stopped": "by another"}
    for command in ("stop", "resume"):
        assert order(gateway, "foreign", command) == 200
        until(lambda: in_registry(gateway, "foreign")["pending"] == 0, "it is dealt with")
    assert registry.tags["foreign 2"] == {"gateway.stopped": "by another"}


def test_a_version_that_was_stopped_under_another_number_is_not_brought(rig: Rig) -> None:
    registry, gateway = rig
    there = ModelVersion(model="twin", version=2, source=f"models:/{LOGGED}", run_id="", tags={})
    assert propose(gateway, "twin", 1000001, **{"origin.json": origin_of(there, registry.url).document()}) == 200
    assert order(gateway, "twin", "stop") == 200
    registry.of["twin"]["challenger"] = "2"
    until(lambda: "was stopped here, as version 1000001" in note(gateway, "twin"), "it is refused")
    assert versions(gateway, "twin") == (1, 1000001)


def test_a_fetch_ends_when_the_model_is_not_bound_to_the_registry_any_more(rig: Rig) -> None:
    registry, gateway = rig
    registry.hold("unbound")
    registry.of["unbound"]["challenger"] = "2"
    until(registry.asked.is_set, "version 2 is being fetched")
    edit(gateway, "unbound", {"stable": 1})
    registry.of["fine"]["challenger"] = "3"
    until(lambda: versions(gateway, "fine") == (1, 3), "the next fetch begins, though that one has not ended there")
    registry.go.set()
    assert versions(gateway, "unbound") == (1, None)


def test_a_champion_goes_back_to_the_first_version_that_was_put_in_by_hand(followed: Rig) -> None:
    registry, gateway = followed
    until(lambda: in_registry(gateway, "back")["champion"] == 1, "the first one is known")
    for version in (2, 1):
        registry.of["back"]["champion"] = str(version)
        until(lambda version=version: versions(gateway, "back") == (version, None), "the champion is stable")
    until(lambda: note(gateway, "back") == "", "both agree")


def test_a_champion_that_is_taken_back_before_it_is_fetched_does_not_become_stable(followed: Rig) -> None:
    registry, gateway = followed
    registry.hold("given-up")
    registry.of["given-up"]["champion"] = "2"
    until(registry.asked.is_set, "version 2 is being fetched")
    registry.of["given-up"]["champion"] = "1"
    until(lambda: in_registry(gateway, "given-up")["champion"] == 1, "it is taken back")
    registry.go.set()
    until(lambda: note(gateway, "given-up") == "", "the fetch has ended")
    assert versions(gateway, "given-up") == (1, None)
    assert decisions(gateway, "given-up") == []


def test_the_fetch_that_waits_for_another_begins_after_it_though_polls_are_rare(tmp_path: Path) -> None:
    names = ("back", "agreed")
    with Registry() as registry:
        for name in names:
            registry.of[name]["challenger"] = "2"
        with started(tmp_path, registry, names, "challenger", poll="1h") as gateway:
            until(lambda: {versions(gateway, name) for name in names} == {(1, 2)}, "both challengers are candidates")
