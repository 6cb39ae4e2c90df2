"""One export at a time writes to a folder, and a replacement that fails leaves what was there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.offline.dataset.placing import LOCK, UNFINISHED, replace_export, unfinished

PART = "model=m/date=2026-11-18/part-00000.parquet"


def manifest(rows: bytes) -> bytes:
    files = f'[{{"path": "{PART}", "sha256": "{rows.hex()}"}}]'
    return f'{{"kind": "canary-gateway export", "model": "m", "files": {files}}}'.encode()


def place(out: Path, rows: bytes) -> None:
    with unfinished(out, "m") as folder:
        write(folder, rows)
        replace_export(out, folder, "m", manifest(rows))


def write(folder: Path, rows: bytes) -> None:
    (folder / PART).parent.mkdir(parents=True)
    (folder / PART).write_bytes(rows)


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def whole(rows: bytes) -> dict[str, bytes]:
    return {"_manifest.json": manifest(rows), PART: rows}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of an export."""
    place(tmp_path / "out", b"old")
    return tmp_path / "out"


def test_second_export_into_a_folder_is_refused_while_the_first_writes(out: Path) -> None:
    with unfinished(out, "m") as folder:
        write(folder, b"first")
        with (
            pytest.raises(GatewayError, match=r"another export is writing to .*/out; wait for its end"),
            unfinished(out, "m"),
        ):
            pass
        replace_export(out, folder, "m", manifest(b"first"))
    assert files(out) == whole(b"first")
    place(out, b"second")
    assert files(out) == whole(b"second")
    assert {path.name for path in out.iterdir()} == {"_manifest.json", "model=m"}


def test_what_a_killed_export_left_is_no_obstacle(out: Path) -> None:
    (out / LOCK).touch()
    (out / UNFINISHED).mkdir()
    (out / UNFINISHED / "feedback.sqlite").touch()
    place(out, b"new")
    assert files(out) == whole(b"new")
    assert {path.name for path in out.iterdir()} == {"_manifest.json", "model=m"}


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize(("first", "failing"), [*((True, at) for at in range(2)), *((False, at) for at in range(4))])
def test_replacement_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, killed: bool, first: bool
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if not first:
        place(out, b"old")
    before, rename, calls = files(out), Path.rename, 0

    def renamed(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == failing + 1 or (killed and calls > failing):
            raise OSError("the disk fails")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    if killed:
        monkeypatch.setattr("shutil.rmtree", lambda *given, **more: None)
    with pytest.raises(OSError, match="the disk fails"):
        place(out, b"new")
    monkeypatch.undo()
    with pytest.raises(ZeroDivisionError), unfinished(out, "m"):  # it puts back what a killed one has moved away
        raise ZeroDivisionError
    assert files(out) == before
    place(out, b"newer")
    assert files(out) == whole(b"newer")


def link_to_an_empty_folder(path: Path) -> None:
    (path.parent / "target").mkdir()
    path.symlink_to("target")


@pytest.mark.parametrize("make", [Path.mkdir, link_to_an_empty_folder])
def test_folder_that_was_there_stays(tmp_path: Path, make: Callable[[Path], None]) -> None:
    out = tmp_path / "out"
    make(out)
    with pytest.raises(ZeroDivisionError), unfinished(out, "m"):
        raise ZeroDivisionError
    assert out.is_dir() and not any(out.iterdir())
    place(out, b"new")
    assert files(out) == whole(b"new")


def test_folder_that_was_made_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), unfinished(tmp_path / "out", "m"):
        raise ZeroDivisionError
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (None, "contains something other than an export"),
        (b'{"kind": "canary-gateway export", "files": []}', "contains something other than an export"),
        (b'{"kind": "canary-gateway export", "model": "m", "files": [1]}', "contains something other than an export"),
        (b'{"kind": "canary-gateway export", "model": "n", "files": []}', "holds an export of 'n'"),
    ],
)
def test_manifest_that_is_none_is_refused(tmp_path: Path, document: bytes | None, says: str) -> None:
    if document is None:
        (tmp_path / "_manifest.json").mkdir()
    else:
        (tmp_path / "_manifest.json").write_bytes(document)
    with pytest.raises(GatewayError, match=says), unfinished(tmp_path, "m"):
        pass
    assert os.listdir(tmp_path) == ["_manifest.json"]


def test_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("absent")
    with pytest.raises(GatewayError, match="is a link to what is not there"), unfinished(tmp_path / "out", "m"):
        pass
