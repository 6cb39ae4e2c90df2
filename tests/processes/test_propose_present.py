"""`gateway propose MODEL VERSION`: a version that is in the repository becomes the candidate, or stays as it is."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.backends.digest import digest_of
from tests.processes.flawed import kill, until
from tests.processes.test_commands import command
from tests.processes.test_propose import (
    ROOT,
    Digits,
    SlowUpload,
    answering,
    file_of,
    in_force,
    order,
    other_inputs,
    release,
    staged,
    started,
    versions,
)
from tests.recording import json_request
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

SECOND = ROOT / "models" / "digits" / "2"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Digits]:
    folder = tmp_path_factory.mktemp("present")
    with started(folder) as running:
        yield running, folder / "models" / "digits"


@pytest.fixture
def digits(shared: Digits) -> Iterator[Digits]:
    """A gateway that serves version 1; version 3 has been copied beside it."""
    running, folder = shared
    shutil.copytree(SECOND, folder / "3")
    yield shared
    file_of(running).write_text("models:\n  digits:\n    stable: 1\n")
    until(lambda: in_force(running), "the file is in force")
    for version in versions(folder)[1:]:
        shutil.rmtree(folder / version)


def post(running: GatewayProcess, version: Any, model: str = "digits", **query: Any) -> httpx.Response:
    url = f"{running.control_url}/api/releases/{model}/propose"
    return httpx.post(url, params={"version": version} | query, timeout=60)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(running: GatewayProcess, version: Any, status: int, **query: Any) -> str:
    """Why it is refused; nothing has changed."""
    folder = running.config.parent / "models"
    before, text = contents(folder), file_of(running).read_text()
    answer = post(running, version, **query)
    assert answer.status_code == status, answer.text
    assert (contents(folder), file_of(running).read_text()) == (before, text)
    assert not (running.config.parent / "state" / "proposal.json").exists()
    return str(answer.json()["error"])


@pytest.mark.parametrize(
    "version", ["../3", "-1", "0", "03", "3.0", "1" + "0" * 20, "3/", "0x3", "3_0", "true", "", "3 ", "\u0663", "3\x00"]
)
def test_what_is_no_number_is_refused(digits: Digits, version: str) -> None:
    assert refused(digits[0], version, 400)


def test_without_a_number_or_twice_is_refused(digits: Digits) -> None:
    running, _ = digits
    url = f"{running.control_url}/api/releases/digits/propose"
    none = httpx.post(url)
    assert (none.status_code, "there is no body, so no version" in none.json()["error"]) == (400, True)
    cut = httpx.post(url, params={"version": 3}, headers={"content-type": "application/x-tar"})
    assert cut.status_code == 409 and "is there already" in cut.text  # an archive that came out empty
    brought = httpx.post(url, params={"version": 3}, json={})
    assert (brought.status_code, "x-tar, or none, with content-length 0" in brought.text) == (415, True)
    for model in ("..", "%2e%2e", "nothing"):
        assert httpx.post(f"{running.control_url}/api/releases/{model}/propose?version=3").status_code == 404


def test_what_is_missing_or_incomplete_is_refused_and_stays(digits: Digits, tmp_path: Path) -> None:
    running, folder = digits
    assert "there is no version 9 of 'digits'" in refused(running, 9, 404)
    (folder / "3" / "model.onnx").rename(folder / "3" / ".model.onnx.aB3xYz")
    assert "is being copied: .model.onnx.aB3xYz" in refused(running, 3, 409)
    (folder / "3" / ".model.onnx.aB3xYz").rename(folder / "3" / "model.onnx.bak")
    assert "model.onnx is missing" in refused(running, 3, 409)
    (folder / "3" / "model.onnx").write_bytes((SECOND / "model.onnx").read_bytes()[:-1000])
    assert "version 3 of 'digits' is refused: " in refused(running, 3, 409)
    other_inputs(folder / "3" / "model.onnx")
    assert "'picture'" in refused(running, 3, 409, weight=5)
    shutil.rmtree(folder / "3")
    (folder / "3").symlink_to(tmp_path / "nowhere")
    assert "there is no version 3" in refused(running, 3, 404)
    (folder / "3").unlink()
    shutil.copytree(SECOND, tmp_path / "mounted")
    (folder / "3").symlink_to(tmp_path / "mounted")  # as models.mounted does
    assert post(running, 3).status_code == 200
    file_of(running).write_text("models:\n  digits:\n    stable: 1\n")
    until(lambda: in_force(running), "the file is in force")
    (folder / "3").unlink()


@contextmanager
def held_trial(folder: Path) -> Iterator[None]:
    """The trial that comes next gets no further until this ends: warmup.json, which it reads, is a pipe."""
    pipe = folder / "warmup.json"
    with pipe.open("wb") as trial:  # once it is opened to be read
        pipe.unlink()  # no other trial reads it
        yield
        trial.write(json_request("digits", np.zeros((1, 64), np.float32)))


def test_a_version_that_is_written_while_it_is_tried_is_refused(digits: Digits) -> None:
    running, folder = digits
    os.mkfifo(folder / "warmup.json")
    answers: list[httpx.Response] = []
    proposing = threading.Thread(target=lambda: answers.append(post(running, 3)))
    proposing.start()
    with held_trial(folder):
        (folder / "3" / "labels.txt").write_text("more")
        assert "a version of 'digits' is being proposed now" in refused(running, 3, 409)
    proposing.join()
    assert answers[0].status_code == 409, answers[0].text
    assert f"{folder}/3/labels.txt has changed while version 3 of 'digits' was being tried" in answers[0].text
    assert (release(running)["candidate"], versions(folder)) == (None, ["1", "3"])
    assert post(running, 3).status_code == 200


def test_a_version_that_another_edit_is_loading_is_refused(digits: Digits) -> None:
    running, folder = digits
    os.mkfifo(folder / "warmup.json")
    text = file_of(running)
    text.write_text("models: {digits: {stable: 1, candidate: 3}}")
    with held_trial(folder):
        assert "has just been edited, and that edit is not in force yet" in refused(running, 3, 409)
    until(lambda: in_force(running), "the edit is in force")
    assert "is the candidate already" in refused(running, 3, 409)


def test_of_an_upload_and_a_present_version_at_once_one_wins(digits: Digits) -> None:
    running, folder = digits
    first = SlowUpload(running)
    until(lambda: staged(folder), "the upload has begun")
    assert "a version of 'digits' is being proposed now" in refused_now(running)
    assert b"HTTP/1.1 200" in first.finish()
    assert "candidate 4 of 'digits' is under way" in refused_now(running)
    assert versions(folder) == ["1", "3", "4"]


def refused_now(running: GatewayProcess) -> str:
    answer = post(running, 3)
    assert answer.status_code == 409
    return answer.text


def test_a_kill_between_trial_and_edit_removes_nothing(digits: Digits) -> None:
    running, folder = digits
    before = contents(folder / "3")
    os.mkfifo(folder / "warmup.json")
    proposing = threading.Thread(target=propose_until_killed, args=(running,))
    proposing.start()
    with held_trial(folder):
        kill(running.pid)
    proposing.join()
    assert running.process is not None
    running.process.wait()
    running.__enter__()
    assert (contents(folder / "3"), release(running)["candidate"]) == (before, None)
    assert post(running, 3).status_code == 200


def propose_until_killed(running: GatewayProcess) -> None:
    with suppress(httpx.TransportError):
        post(running, 3)


def test_a_present_version_is_named_and_its_rules_are_those_of_any(digits: Digits) -> None:
    """The last test: it stops versions for good."""
    running, folder = digits
    words = ("propose", "digits", "3", "--weight", "50", "--reason", "copied", "--url", running.control_url)
    done = command(running.config.with_name("absent.yaml"), *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "+    candidate: 3\n" in done.stdout
    assert "version 3 of digits (2 files, 0.0 MiB) is the candidate\ntraffic: everyone 50%\n" in done.stdout
    assert answering(running) == {1, 3}
    (decision,) = httpx.get(f"{running.control_url}/api/decisions?model=digits&limit=1").json()
    assert (decision["action"], decision["candidate"], decision["reason"]) == ("propose", 3, "copied")
    evidence = decision["evidence"]
    assert (evidence["via"], evidence["stable"], evidence["replaced"]) == ("cli", 1, None)
    assert (evidence["files_in_all"], evidence["model_sha256"]) == (2, digest_of(SECOND / "model.onnx"))

    for query in ({}, {"replace": True}):
        assert "version 3 of 'digits' is the candidate already" in refused(running, 3, 409, **query)
        assert "version 1 of 'digits' is stable already" in refused(running, 1, 409, **query)
    shutil.copytree(folder / "1", folder / "4")
    assert "candidate 3 of 'digits' is under way" in refused(running, 4, 409)
    replaced = post(running, 4, replace=True).json()
    assert (replaced["version"], replaced["replaced"], release(running)["candidate"]) == (4, 3, 4)
    assert order(running, "stop") == 200
    assert "version 4 of 'digits' is stopped; to bring it back, name candidate 4" in refused(running, 4, 409)
    shutil.copytree(folder / "4", folder / "5")
    assert "it is the model of version 4, which local has stopped" in refused(running, 5, 409)
    (folder / "6").mkdir()  # not 3, which is stopped, too, if a worker still had it
    (folder / "6" / "model.onnx").write_bytes((SECOND / "model.onnx").read_bytes() + b"\x32\x05other")
    assert post(running, 6).json()["replaced"] == 4  # what is stopped is not under way
    assert versions(folder) == ["1", "3", "4", "5", "6"]
