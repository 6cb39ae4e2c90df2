"""The model catalog: what is served, what is left out and why, and that no request is lost when it changes."""

import asyncio
import functools
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from gateway.backends.repository import Repository
from gateway.errors import ModelUnavailable, NotFound
from gateway.routing.attributes import Attributes
from gateway.settings.routing import RoutingSettings
from gateway.worker.models.catalog import ModelCatalog
from gateway.worker.models.index import VersionState
from gateway.worker.models.load_options import LoadOptions
from gateway.worker.models.served_model import ServedModel
from tests import zoo
from tests.backends import onnx_models
from tests.backends.onnx_models import place, scaling
from tests.deployed import Catalog, served_by
from tests.wire import LONG

T = TypeVar("T")
Make = Callable[[Path], Path]
READY, UNAVAILABLE = VersionState.READY, VersionState.UNAVAILABLE
ONE, TWO = scaling(1), scaling(2)
NOT_NAMED = "not loaded: no release names this version"
CANARY = {"stable": 1, "candidate": 2, "split": {"routes": [{"name": "all", "weight": "100%"}]}}
PATIENCE_S = 30.0


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    return run


def soon(awaitable: Awaitable[T]) -> Coroutine[Any, Any, T]:
    """Raise instead of hanging."""
    return asyncio.wait_for(awaitable, PATIENCE_S)


def prepared(models: Path, **releases: Any) -> ModelCatalog:
    return served_by(Repository(models), RoutingSettings.model_validate({"models": releases}))


def two_versions(models: Path, stable: Make = ONE, candidate: Make = TWO) -> Path:
    """Two versions of model m; returns the candidate's file."""
    place(models, "m", 1, stable)
    return place(models, "m", 2, candidate)


@asynccontextmanager
async def started_catalog(models: Path, **releases: Any) -> AsyncIterator[ModelCatalog]:
    deployment = prepared(models, **releases)
    try:
        await deployment.start()
        yield deployment
    finally:
        await soon(deployment.close())


def submitted(model: ServedModel, version: int) -> "asyncio.Future[Any]":
    feeds = {"x": np.array([[1, 2]], np.float32)}
    return model.versions[version].infer(feeds, time.monotonic_ns() + int(PATIENCE_S * 2e9))


async def answer(deployment: ModelCatalog, name: str, version: int) -> Any:
    """The version's output for the row [1, 2]."""
    (y,) = await soon(submitted(deployment.models[name], version))
    return y[0].tolist()


def threads_of(version: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(f"{version}_")]


def chosen(deployment: ModelCatalog, name: str) -> int:
    return deployment.models[name].release.decide(Attributes(), "a-prediction").version


def states(deployment: ModelCatalog) -> dict[tuple[str, int], str]:
    """The index as {(name, version): its reason}, "" where it is ready."""
    entries = deployment.index()
    assert all((entry.state == READY) == (entry.reason == "") for entry in entries)
    return {(entry.name, entry.version): entry.reason for entry in entries}


@on_a_loop
async def test_model_without_a_release_is_served_by_its_highest_version(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        place(tmp_path, "m", version, scaling(version))
    async with started_catalog(tmp_path) as deployment:
        assert chosen(deployment, "m") == 10
        assert await answer(deployment, "m", 10) == [10, 20]
        assert states(deployment) == {("m", 1): NOT_NAMED, ("m", 2): NOT_NAMED, ("m", 10): ""}
        assert deployment.failures() == []


@on_a_loop
async def test_release_is_served_by_its_stable_and_its_candidate(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        place(tmp_path, "m", version, scaling(version))
    deployment = prepared(tmp_path, m=CANARY)
    await deployment.start()
    model = deployment.models["m"]
    assert (model.release.stable, chosen(deployment, "m")) == (1, 2)
    assert [await answer(deployment, "m", version) for version in (1, 2)] == [[1, 2], [2, 4]]
    assert states(deployment) == {("m", 1): "", ("m", 2): "", ("m", 3): NOT_NAMED}
    assert not model.versions[2].backend.on_loop  # where it hangs, stable must not
    await soon(deployment.close())
    assert deployment.models == {}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (zoo.garbage, "{file}: ONNX Runtime cannot load it"),
        (zoo.half_known, "{file}: output 'y' is of type seq(tensor(float))"),
        (onnx_models.centring, "version 2 cannot replace the stable version: its input 'x' is FP32 [-1, 3] instead"),
        (lambda path: path, "{file} is missing"),
    ],
)
@on_a_loop
async def test_broken_candidate_is_unavailable_and_stable_serves_on(tmp_path: Path, make: Make, reason: str) -> None:
    file = two_versions(tmp_path, candidate=make)
    async with started_catalog(tmp_path, m=CANARY) as deployment:
        assert deployment.models["m"].versions.keys() == {1}
        assert (chosen(deployment, "m"), await answer(deployment, "m", 1)) == (1, [1, 2])
        stable, candidate = deployment.index()
        assert (stable.version, stable.state, candidate.version, candidate.state) == (1, READY, 2, UNAVAILABLE)
        assert candidate.reason.startswith(reason.format(file=file))
        assert deployment.failures() == [candidate]


@on_a_loop
async def test_changed_files_are_served_only_once_loaded(tmp_path: Path) -> None:
    two_versions(tmp_path, candidate=zoo.garbage)
    async with started_catalog(tmp_path, m=CANARY) as deployment:
        two_versions(tmp_path, stable=scaling(5))
        assert (chosen(deployment, "m"), await answer(deployment, "m", 1)) == (1, [1, 2])
        await deployment.load("m")
        assert (chosen(deployment, "m"), await answer(deployment, "m", 1)) == (2, [5, 10])
        assert await answer(deployment, "m", 2) == [2, 4]
        assert states(deployment) == {("m", 1): "", ("m", 2): ""}
        assert deployment.failures() == []


def test_broken_stable_version_of_a_release_raises_and_names_its_file(tmp_path: Path) -> None:
    two_versions(tmp_path, stable=zoo.garbage)
    with pytest.raises(ModelUnavailable) as caught:
        asyncio.run(prepared(tmp_path, m=CANARY).start())
    assert str(caught.value).startswith(f"{tmp_path / 'm' / '1' / 'model.onnx'}: ONNX Runtime cannot load it")


def test_release_of_a_missing_version_raises(tmp_path: Path) -> None:
    place(tmp_path, "m", 2, scaling(2))
    with pytest.raises(ModelUnavailable, match="model 'm' has no version 1; it has 2"):
        asyncio.run(prepared(tmp_path, m={"stable": 1}).start())


@on_a_loop
async def test_broken_model_without_a_release_is_unavailable_and_others_serve(tmp_path: Path) -> None:
    place(tmp_path, "good", 1, scaling(1))
    file = place(tmp_path, "garbage", 1, zoo.garbage)
    place(tmp_path, "settings", 1, scaling(1))
    (tmp_path / "settings" / "model.yaml").write_text("threads: none\n")
    (tmp_path / "empty" / "1").mkdir(parents=True)
    async with started_catalog(tmp_path) as deployment:
        assert deployment.models.keys() == {"good"}
        reasons = states(deployment)
        assert reasons["good", 1] == ""
        assert reasons["garbage", 1].startswith(f"{file}: ")
        assert reasons["settings", 1].startswith(f"{tmp_path / 'settings' / 'model.yaml'}: threads")
        assert reasons["empty", 1] == f"{tmp_path / 'empty' / '1' / 'model.onnx'} is missing"
        assert [entry.name for entry in deployment.failures()] == ["garbage", "settings"]  # a folder is no version


@on_a_loop
async def test_load_picks_up_a_new_model_but_no_new_version(tmp_path: Path) -> None:
    place(tmp_path, "m", 1, scaling(1))
    async with started_catalog(tmp_path) as deployment:
        place(tmp_path, "m", 1, scaling(3))
        place(tmp_path, "m", 2, scaling(2))
        place(tmp_path, "new", 7, scaling(7))
        assert states(deployment) == {("m", 1): "", ("m", 2): NOT_NAMED, ("new", 7): NOT_NAMED}
        await deployment.load("m")
        await deployment.load("new", RoutingSettings.model_validate({"models": {"new": {"stable": 7}}}))
        assert (await answer(deployment, "m", 1), await answer(deployment, "new", 7)) == ([3, 6], [7, 14])
        assert states(deployment) == {("m", 1): "", ("m", 2): NOT_NAMED, ("new", 7): ""}


@on_a_loop
async def test_missing_version_folder_is_reported_and_not_replaced_by_another(tmp_path: Path) -> None:
    place(tmp_path, "m", 1, scaling(1))
    routing = RoutingSettings.model_validate({"models": {"m": {"stable": 2}}})
    deployment = Catalog(Repository(tmp_path), routing, frozenset())
    await deployment.start()
    assert deployment.models == {}
    assert states(deployment) == {
        ("m", 1): NOT_NAMED,
        ("m", 2): "model 'm' has no version 2; it has 1; put its folder back, or name another version as stable in the"
        " routing file",
    }
    await soon(deployment.close())


@on_a_loop
async def test_failed_load_leaves_what_is_served_unchanged(tmp_path: Path) -> None:
    place(tmp_path, "m", 1, scaling(1))
    async with started_catalog(tmp_path) as deployment:
        model = deployment.models["m"]
        file = place(tmp_path, "m", 1, zoo.garbage)
        with pytest.raises(ModelUnavailable) as caught:
            await deployment.load("m")
        assert str(caught.value).startswith(f"{file}: ")
        assert deployment.models["m"] is model
        assert await answer(deployment, "m", 1) == [1, 2]


@on_a_loop
async def test_unloaded_model_is_not_served_until_loaded_again(tmp_path: Path) -> None:
    for name in ("kept", "m"):
        place(tmp_path, name, 1, scaling(1))
    async with started_catalog(tmp_path) as deployment:
        await deployment.unload("m")
        assert deployment.models.keys() == {"kept"}
        assert states(deployment) == {("kept", 1): "", ("m", 1): "unloaded"}
        with pytest.raises(NotFound, match="model 'm' is not loaded"):
            await deployment.unload("m")
        with pytest.raises(NotFound, match="the repository has no model 'gone'"):
            await deployment.load("gone")
        await deployment.load("m")
        assert await answer(deployment, "m", 1) == [1, 2]
        assert states(deployment) == {("kept", 1): "", ("m", 1): ""}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("change", [ModelCatalog.load, ModelCatalog.unload])
@on_a_loop
async def test_requests_in_flight_are_answered_by_the_version_that_got_them(
    tmp_path: Path, change: Any, version: int
) -> None:
    two_versions(tmp_path)
    (tmp_path / "m" / "model.yaml").write_text("batching: {max_size: 2, max_delay: 1h}\n")
    async with started_catalog(tmp_path, m=CANARY) as deployment:
        old = deployment.models["m"]
        first = submitted(old, version)  # waits an hour for company
        place(tmp_path, "m", version, scaling(9))
        await change(deployment, "m")
        assert deployment.models.get("m") is not old
        assert not first.done()
        second = submitted(old, version)  # had read the old configuration, and fills the batch
        ((y,), (z,)) = await soon(asyncio.gather(first, second))
        assert y.tolist() == z.tolist() == [[version, 2 * version]]


@on_a_loop
async def test_replaced_stable_still_answers_for_its_candidate(tmp_path: Path) -> None:
    """A candidate call in progress when both are replaced may still need it."""
    two_versions(tmp_path, onnx_models.looping, onnx_models.looping)
    (tmp_path / "m" / "warmup.json").write_text(json.dumps(LONG))  # so each has a thread of its own
    async with started_catalog(tmp_path, m=CANARY) as deployment:
        old = deployment.models["m"].stable
        assert not old.backend.on_loop
        await deployment.prepare(RoutingSettings.model_validate({"models": {"m": {"stable": 2}}}), 2)
        deployment.commit()
        async with asyncio.timeout(PATIENCE_S):
            while old.spare:  # until it is closed
                await asyncio.sleep(0.001)
        (turns,) = await soon(old.infer({"x": np.array([3])}, time.monotonic_ns() + int(PATIENCE_S * 1e9)))
        assert turns.tolist() == [3]
        assert threads_of("m-1")
        del old
        async with asyncio.timeout(PATIENCE_S):
            while threads_of("m-1"):  # they end with the last that knows of them
                await asyncio.sleep(0.001)


@on_a_loop
async def test_closing_ends_runs_in_progress(tmp_path: Path) -> None:
    two_versions(tmp_path, onnx_models.looping, onnx_models.looping)
    async with started_catalog(tmp_path, m=CANARY) as deployment:
        endless = {"x": np.array([2**62])}
        hung = deployment.models["m"].versions[2].infer(endless, time.monotonic_ns() + 3600 * 10**9)
        await asyncio.sleep(0)
        await deployment.unload("m")  # drains for as long as it may
        assert not hung.done()
        await soon(deployment.close())
        assert hung.cancelled()


@on_a_loop
async def test_stable_runs_like_the_candidate_while_latencies_are_compared(tmp_path: Path) -> None:
    guards = {"comparisons": [{"name": "slow", "metric": "slow_requests", "threshold": "50ms"}]}
    two_versions(tmp_path)
    async with started_catalog(tmp_path, m=CANARY) as deployment:
        assert deployment.models["m"].stable.backend.on_loop
        for release, on_loop in ((CANARY | {"guards": guards}, False), (CANARY, True)):
            await deployment.prepare(RoutingSettings.model_validate({"models": {"m": release}}), 2)
            deployment.commit()
            assert deployment.models["m"].stable.backend.on_loop is on_loop
            assert not deployment.models["m"].versions[2].backend.on_loop
            assert await answer(deployment, "m", 1) == [1, 2]


UNJUDGED = {**CANARY, "guards": {"comparisons": [{"name": "accuracy", "metric": "wrong_feedback"}]}}
NEVER = "models.m.guards.comparisons[0]: wrong_feedback can never act: version 1: model.yaml names no prediction.output"


@on_a_loop
async def test_guard_that_can_never_act_leaves_the_candidate_out_at_a_start(tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with started_catalog(tmp_path, m=UNJUDGED) as deployment:
        assert deployment.models["m"].versions.keys() == {1}
        assert states(deployment)["m", 2].startswith(NEVER)


@on_a_loop
async def test_edit_with_a_guard_that_can_never_act_is_refused(tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with started_catalog(tmp_path, m=CANARY) as deployment:
        before = deployment.models
        with pytest.raises(ModelUnavailable) as refused:
            await deployment.prepare(RoutingSettings.model_validate({"models": {"m": UNJUDGED}}), 2)
        assert str(refused.value).startswith(NEVER)
        assert str(refused.value).endswith("an edit of model.yaml takes effect when 'm' is loaded again")
        assert deployment.models is before


def alone(stable: int) -> RoutingSettings:
    return RoutingSettings.model_validate({"models": {"m": {"stable": stable}}})


async def swap(catalog: ModelCatalog, stable: int, **options: Any) -> None:
    await soon(catalog.prepare(alone(stable), 2, None, LoadOptions(**options)))
    catalog.commit()


@on_a_loop
async def test_old_stable_stays_loaded_after_a_promotion_until_it_is_not_kept(tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with started_catalog(tmp_path, m=CANARY) as catalog:
        old = catalog.models["m"].stable
        await swap(catalog, 2, kept={"m": 1})
        served = catalog.models["m"]
        assert (served.stable.number, set(served.versions)) == (2, {2}), "no request can name the one that is kept"
        assert served.kept is not None
        assert served.kept.facts is old.facts, "it was not loaded again"
        assert catalog.runs_on().keys() == {("m", 1), ("m", 2)}
        (index,) = [entry for entry in catalog.index() if entry.version == 1]
        assert (index.state, "kept loaded" in index.reason) == (UNAVAILABLE, True)
        await swap(catalog, 1)
        assert catalog.models["m"].stable.facts is old.facts
        assert await answer(catalog, "m", 1) == [1, 2]
        await swap(catalog, 2)
        assert catalog.runs_on().keys() == {("m", 2)}


@on_a_loop
async def test_version_that_cannot_be_kept_costs_nothing_but_the_undo(tmp_path: Path) -> None:
    place(tmp_path, "m", 2, TWO)
    async with started_catalog(tmp_path, m={"stable": 2}) as catalog:
        await swap(catalog, 2, kept={"m": 1})
        assert catalog.models["m"].kept is None
        assert (catalog.unavailable(), catalog.failures()) == ({}, [])
        assert await answer(catalog, "m", 2) == [2, 4]


@on_a_loop
async def test_start_and_load_keep_the_version_too(tmp_path: Path) -> None:
    two_versions(tmp_path)
    catalog = prepared(tmp_path, m={"stable": 2})
    catalog.boards.plan(alone(2), {"m": 1})  # type: ignore[attr-defined]
    catalog._factory.kept = {"m": 1}
    await catalog.start()
    first = catalog.models["m"].kept
    await soon(catalog.load("m", None, LoadOptions(kept={"m": 1})))
    again = catalog.models["m"].kept
    assert first is not None and again is not None
    assert (first.number, again.number, again.facts is first.facts) == (1, 1, False)
    await soon(catalog.close())
