"""The trial process: a verdict on each version, and a crash is attributed to one version only."""

from pathlib import Path

import pytest

from gateway.backends.trial import LoadResult, LoadTrial, try_versions
from tests import zoo
from tests.backends import onnx_models
from tests.backends.onnx_models import needs_trap, place


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    place(folder, "good", 1, onnx_models.scaling(2))
    place(folder, "good", 2, onnx_models.scaling(3))
    place(folder, "good", 3, onnx_models.centring)
    place(folder, "good", 4, zoo.garbage)
    place(folder, "centring", 1, onnx_models.centring)
    place(folder, "misconfigured", 1, onnx_models.doubling)
    (folder / "misconfigured" / "model.yaml").write_text("threads: none\n")
    place(folder, "crash", 1, onnx_models.crashing)
    place(folder, "crash", 2, onnx_models.crashing)
    return folder


def verdicts(models: Path, *trials: tuple[str, int, int]) -> list[LoadResult]:
    tried = [LoadTrial(*trial) for trial in trials]
    results = list(try_versions(models, tried))
    assert [verdict.trial for verdict in results] == tried
    return results


def test_verdicts_without_versions_are_empty(models: Path) -> None:
    assert verdicts(models) == []


def test_verdict_on_a_good_version_includes_its_warm_up(models: Path) -> None:
    good, candidate, centring = verdicts(models, ("good", 1, 1), ("good", 2, 1), ("centring", 1, 1))
    assert (good.error, candidate.error, centring.error) == ("", "", "")
    assert (good.unbatchable_reason, candidate.unbatchable_reason) == ("", "")
    assert centring.unbatchable_reason == "rows run together differ from the same rows run apart"
    assert all(verdict.single_us > 0 for verdict in (good, candidate, centring))


def test_verdict_on_a_bad_version_gives_the_reason_and_others_continue(models: Path) -> None:
    misfit, garbage, missing, unknown, misconfigured, good = verdicts(
        models,
        ("good", 3, 1),
        ("good", 4, 1),
        ("good", 5, 1),
        ("nothing", 1, 1),
        ("misconfigured", 1, 1),
        ("good", 1, 1),
    )
    assert misfit.error == (
        "version 3 cannot replace the stable version: its input 'x' is FP32 [-1, 3] instead of FP32 [-1, 2]"
    )
    assert garbage.error.startswith(f"{models / 'good' / '4' / 'model.onnx'}: ONNX Runtime cannot load it")
    assert missing.error == "model 'good' has no version 5; it has 1, 2, 3, 4"
    assert unknown.error == f"model 'nothing' has no version 1; {models / 'nothing'} holds none"
    assert misconfigured.error.startswith(f"{models / 'misconfigured' / 'model.yaml'}: threads")
    assert good.error == ""


@needs_trap
def test_version_that_crashes_the_trial_is_blamed_alone(models: Path) -> None:
    good, first, second, garbage, candidate, last = verdicts(
        models, ("good", 1, 1), ("crash", 1, 1), ("crash", 2, 2), ("good", 4, 1), ("good", 2, 1), ("crash", 1, 1)
    )
    assert (good.error, candidate.error) == ("", "")
    for crash in (first, second, last):
        assert crash.error == "loading it killed the process by SIGFPE; the file is damaged"
    assert garbage.error.startswith(f"{models / 'good' / '4' / 'model.onnx'}: ONNX Runtime cannot load it")


def test_a_version_whose_server_is_not_there_is_not_refused(tmp_path: Path) -> None:
    place(tmp_path, "m", 1, onnx_models.doubling)
    (tmp_path / "m" / "2").mkdir()
    (tmp_path / "m" / "2" / "remote.yaml").write_text("url: http://127.0.0.1:1")
    (found,) = try_versions(tmp_path, [LoadTrial("m", 2, 1)])
    assert not found.error
    assert "not checked" in found.warning and "127.0.0.1:1" in found.warning


def test_a_mistake_in_remote_yaml_refuses_the_version(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "remote.yaml").write_text("urll: http://a")
    (found,) = try_versions(tmp_path, [LoadTrial("m", 1, 1)])
    assert "remote.yaml" in found.error and "urll" in found.error
