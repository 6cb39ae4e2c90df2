"""The accepted routing file is kept through disk failures, and every edit by hand is recorded."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.backends.repository import Repository
from gateway.control.config import acceptance as module
from gateway.control.config.acceptance import RoutingAcceptance
from gateway.control.config.file_snapshot import snapshot
from gateway.control.config.memory import ReleaseMemoryFile
from gateway.control.release.decisions import DecisionLog
from gateway.errors import Conflict

ONE = "models: {m: {stable: 1, candidate: 2, split: {routes: [{name: all, weight: 50}]}}}\n"
TWO = "models: {m: {stable: 2}}\n"


@contextmanager
def opened(folder: Path) -> Iterator[tuple[RoutingAcceptance, DecisionLog]]:
    for version in "12":
        (folder / "models" / "m" / version).mkdir(parents=True, exist_ok=True)
        (folder / "models" / "m" / version / "model.onnx").touch()
    stops = DecisionLog(folder / "state")
    try:
        yield RoutingAcceptance(folder / "state", Repository(folder / "models"), stops, "routing.yaml"), stops
    finally:
        stops.close()


def accept(accepting: RoutingAcceptance, folder: Path, text: str, note: Callable[[], object] | None = None) -> None:
    file = folder / "routing.yaml"
    file.write_text(text)
    asyncio.run(accepting.accept(accepting.validate(snapshot(file)), note))


def remembered(folder: Path) -> Any:
    return orjson.loads((folder / "state" / "releases.json").read_bytes())["models"]


def test_accepted_text_is_written_when_a_full_disk_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
        with monkeypatch.context() as full:
            full.setattr(ReleaseMemoryFile, "write", lambda *_: False)
            accept(accepting, tmp_path, TWO)
            asyncio.run(accepting.retry_write())
        assert remembered(tmp_path)["m"]["stable"] == 1
        asyncio.run(accepting.retry_write())
    assert remembered(tmp_path)["m"]["stable"] == 2
    assert (tmp_path / "state" / "accepted.yaml").read_text() == TWO


def test_routing_file_in_the_state_folder_does_not_collide_with_state_files(tmp_path: Path) -> None:
    """As the README recommends where commands should edit it; it keeps its usual name."""
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
    assert "routing.yaml" not in {path.name for path in (tmp_path / "state").iterdir()}


def test_memory_without_models_is_restored_from_the_accepted_text(tmp_path: Path) -> None:
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
    (tmp_path / "state" / "releases.json").write_text('{"models": {}}')
    with opened(tmp_path) as (accepting, _):
        assert (accepting.memory["m"].stable, accepting.memory["m"].candidate) == (1, 2)


def test_memory_of_the_version_before_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
    file = tmp_path / "state" / "releases.json"
    now = file.read_text()
    assert '"configured":true' in now
    file.write_text(now.replace('"configured":true', '"named":false'))
    with opened(tmp_path) as (accepting, _):
        assert not accepting.memory["m"].configured
    assert "damaged" not in caplog.text


def test_promotion_is_remembered_beside_the_entries_that_a_gateway_before_reads(tmp_path: Path) -> None:
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
        accept(accepting, tmp_path, TWO)
        promoted = accepting.memory["m"]
        assert promoted.undo is not None and promoted.undo.stable == 1
    entry = {"stable": 2, "candidate": None, "salt": None, "stickiness": "customer", "configured": True}
    assert remembered(tmp_path) == {"m": entry}
    with opened(tmp_path) as (accepting, _):
        assert accepting.memory["m"] == promoted


def test_text_that_comes_back_can_undo_what_it_could(tmp_path: Path) -> None:
    """An undo that could not be applied everywhere is rolled back."""
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
        accept(accepting, tmp_path, TWO)
        promoted = accepting.memory
        accept(accepting, tmp_path, TWO.replace("stable: 2", "stable: 1"))
        assert accepting.memory["m"].undo is None
        accept(accepting, tmp_path, TWO)
        assert accepting.memory == promoted
        assert promoted["m"].undo is not None


@pytest.mark.parametrize(
    "undo",
    [
        [], {"gone": {"stable": 1, "entry": "e"}}, {"m": 5}, {"m": {"stable": 1, "entry": "e", "odd": 1}},
        {"m": {"entry": "e"}}, {"m": {"stable": 1, "entry": 5}}, {"m": {"stable": 1, "entry": "e", "edited": 1}},
        *({"m": {"stable": stable, "entry": "e"}} for stable in (0, -1, 2**63, True, "1", 1.0)),
    ],
)  # fmt: skip
def test_damaged_undo_point_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture, undo: Any) -> None:
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
        accept(accepting, tmp_path, TWO)
    models = {**remembered(tmp_path), "n": {"stable": 7}}
    good = {"n": {"stable": 6, "entry": "e"}} if isinstance(undo, dict) else {}
    points = {**undo, **good} if good else undo
    (tmp_path / "state" / "releases.json").write_bytes(orjson.dumps({"models": models, "undo": points}))
    with opened(tmp_path) as (accepting, _):
        memory = accepting.memory
    assert (memory["m"].stable, memory["m"].undo, memory["n"].stable) == (2, None, 7)
    assert (memory["n"].undo is not None) == bool(good)
    assert "undo" in caplog.text and "created anew" not in caplog.text


def test_changed_stable_is_recorded_even_if_the_accepted_text_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
    (tmp_path / "state" / "accepted.yaml").unlink()
    with opened(tmp_path) as (accepting, stops):
        accept(accepting, tmp_path, TWO)
        (told,) = stops.decisions
        assert (told.model, told.action) == ("m", "edit")
        assert "stable 1 -> 2" in told.reason
    assert "stable 1 -> 2" in caplog.text


def test_edit_of_40_models_is_recorded_as_one_decision(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"m{number}" for number in range(40)]
    with opened(tmp_path) as (accepting, stops):
        accept(accepting, tmp_path, "models:\n" + "".join(f"  {name}: {{stable: 1}}\n" for name in names))
        accept(accepting, tmp_path, "models:\n" + "".join(f"  {name}: {{stable: 2}}\n" for name in names))
        told = stops.decisions[-1]
        assert told.reason == "the entries of 40 models were edited"
        assert "models.m7: stable 1 -> 2, by the file" in told.evidence["changes"]
    assert "models.m7: stable 1 -> 2, by the file" in caplog.text


def test_stop_that_arrives_during_a_promotion_by_edit_wins(tmp_path: Path) -> None:
    with opened(tmp_path) as (accepting, stops):
        accept(accepting, tmp_path, ONE)
        (tmp_path / "routing.yaml").write_text(TWO)
        judged = accepting.validate(snapshot(tmp_path / "routing.yaml"))
        assert accepting.stopped_since(judged) == []
        stops.stop("m", 2, "me", "wrong", {})
        (problem,) = accepting.stopped_since(judged)
        assert problem.startswith("models.m: version 2 was stopped while it was being made stable")
        again = accepting.validate(snapshot(tmp_path / "routing.yaml"))
        assert accepting.stopped_since(again) == [], "asked for once it is stopped, it is meant"


def test_stop_of_what_has_long_been_stable_refuses_no_edit(tmp_path: Path) -> None:
    with opened(tmp_path) as (accepting, stops):
        accept(accepting, tmp_path, TWO)
        (tmp_path / "routing.yaml").write_text(f"{TWO}# edited\n")
        judged = accepting.validate(snapshot(tmp_path / "routing.yaml"))
        stops.stop("m", 2, "another host", "there it is the candidate still", {})
        assert accepting.stopped_since(judged) == []


def test_order_on_a_closed_candidate_is_refused_with_the_reason(tmp_path: Path) -> None:
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
        accepting.refuse_if_closed("m", closed=False)
        accepting.refuse_if_closed("other", closed=True)
        with pytest.raises(
            Conflict, match=r"candidate 2 of 'm' gets no traffic, because routing\.yaml is refused; fix"
        ):
            accepting.refuse_if_closed("m", closed=True)


def test_damaged_accepted_text_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, ONE)
    (tmp_path / "state" / "accepted.yaml").write_text("models: {m")
    with caplog.at_level(logging.ERROR), opened(tmp_path) as (accepting, _):
        assert accepting.memory["m"].candidate == 2
    assert "accepted.yaml: line 2" in caplog.text


def test_version_folder_without_a_model_file_is_not_remembered_as_highest(tmp_path: Path) -> None:
    """Such as one that is still being copied."""
    (tmp_path / "models" / "m" / "3").mkdir(parents=True)
    (tmp_path / "models" / "empty" / "1").mkdir(parents=True)
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, "models: {}\n")
        assert {name: one.stable for name, one in accepting.memory.items()} == {"m": 2}


def test_unreadable_model_folder_does_not_affect_other_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "private" / "1").mkdir(parents=True)
    list_all = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "private":  # root may read all
            raise PermissionError(13, "Permission denied")
        return list_all(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with opened(tmp_path) as (accepting, _):
        accept(accepting, tmp_path, "models: {}\n")
        assert accepting.memory.keys() == {"m"}


def test_decision_of_a_command_is_on_disk_before_its_edit_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill between the two, the next start records the edit as one by hand: some decision, never none."""
    journal, found = tmp_path / "state" / "decisions.jsonl", []
    with opened(tmp_path) as (accepting, stops):
        accept(accepting, tmp_path, ONE)
        monkeypatch.setattr(ReleaseMemoryFile, "write", lambda *_: found.append(journal.read_text()) or True)
        accept(accepting, tmp_path, TWO, lambda: stops.record("m", 2, "promote", "anna", "a test", {}))
        assert "anna" in found[0]
