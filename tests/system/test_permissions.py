"""Files that the gateway's user may not use: what is refused says where and whose they must be."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.backends.repository import Repository
from gateway.control.release.decisions import DecisionLog
from gateway.control.supervisor import _lock_state
from gateway.errors import ModelUnavailable, SettingsError
from gateway.records.token_keys import token_keys
from gateway.shm.claim import claim
from gateway.shm.owner import OWNER, PREFIX
from gateway.shm.segment import memory_folder
from tests.unprivileged import NOBODY, as_nobody, needs_root, open_folder

READABLE = "cannot be read: Permission denied; it must be readable by the gateway's user"


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def test_candidate_whose_folder_cannot_be_read_is_not_served_and_no_other_version_fails(folder: Path) -> None:
    with as_nobody():
        for version in ("1", "2"):
            (folder / "digits" / version).mkdir(parents=True)
            (folder / "digits" / version / "model.onnx").write_bytes(b"onnx")
        (folder / "digits" / "2").chmod(0)
        repository = Repository(folder)
        assert not repository.is_remote("digits", 2)
        assert repository.unserved_reason("digits", 2) == f"{folder}/digits/2 {READABLE}"
        assert repository.model_file("digits", 1) == folder / "digits" / "1" / "model.onnx"


@pytest.mark.parametrize("mode", [0, 0o400])
def test_repository_that_cannot_be_read_is_refused(folder: Path, mode: int) -> None:
    with as_nobody():
        folder.chmod(mode)
        with pytest.raises(ModelUnavailable) as refused:
            Repository(folder)
        folder.chmod(0o700)
    assert str(refused.value) == f"the model repository {folder} {READABLE}"


def test_settings_in_a_models_folder_that_cannot_be_read_are_refused_with_where(folder: Path) -> None:
    with as_nobody():
        (folder / "digits").mkdir(0)
        with pytest.raises(SettingsError, match=f"{folder}/digits/model.yaml: cannot be read: .*Permission denied"):
            Repository(folder).settings("digits")


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("stops.json", DecisionLog),
        ("decisions.jsonl", DecisionLog),
        ("token-keys.json", token_keys),
        ("memory-id", claim),
        ("lock", lambda folder: _lock_state(folder).__enter__()),
    ],
)
def test_state_of_another_user_is_refused_with_whose_it_must_be(
    folder: Path, name: str, start: Callable[[Path], object]
) -> None:
    with as_nobody():
        user = os.geteuid()
        (folder / name).touch(0)
        with pytest.raises(
            (SettingsError, ValueError), match=rf"must belong to the gateway's user \(uid {user}\)"
        ) as no:
            start(folder)
    assert str(folder) in str(no.value)


@needs_root
def test_copy_of_another_users_state_folder_is_refused_as_a_copy(folder: Path) -> None:
    memory_id = secrets.token_hex(16)
    (folder / "memory-id").write_text(f"{memory_id}\n")
    owner = memory_folder() / f"{PREFIX}{memory_id}{OWNER}"
    owner.touch(0o600)
    said = r"of a gateway of another user \(uid 0\).*remove .*memory-id"
    try:
        os.chown(folder / "memory-id", NOBODY, NOBODY)
        with as_nobody(), pytest.raises(SettingsError, match=said):
            claim(folder)
    finally:
        owner.unlink()
