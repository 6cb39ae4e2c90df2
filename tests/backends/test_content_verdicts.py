"""Verdicts on model content: any change of a file that may be read makes the version unknown again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.backends.content_verdicts import ContentVerdicts

KEY = ("m", 2)


def overwritten(folder: Path) -> None:
    file = folder / "2" / "model.onnx"
    stamps = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))  # as a copy that keeps the times: the same size, too


def replaced(folder: Path) -> None:
    (folder / "new").write_bytes(b"model")
    (folder / "new").replace(folder / "2" / "model.onnx")


def weights(folder: Path) -> None:
    (folder / "2" / "parts" / "weights.bin").write_bytes(b"other weights")


def another_file(folder: Path) -> None:
    (folder / "2" / "labels.txt").write_bytes(b"")


def sample(folder: Path) -> None:
    (folder / "warmup.json").write_bytes(b"{}")


def settings(folder: Path) -> None:
    (folder / "model.yaml").write_bytes(b"threads: 2")


def gone(folder: Path) -> None:
    shutil.rmtree(folder / "2")


def of_another_version(folder: Path) -> None:
    (folder / "1" / "model.onnx").write_bytes(b"other")


@pytest.fixture
def contents(tmp_path: Path) -> ContentVerdicts:
    for version in ("1", "2"):
        (tmp_path / "m" / version / "parts").mkdir(parents=True)
        (tmp_path / "m" / version / "model.onnx").write_bytes(b"model")
        (tmp_path / "m" / version / "parts" / "weights.bin").write_bytes(b"weights")
    return ContentVerdicts(tmp_path)


@pytest.mark.parametrize("change", [overwritten, replaced, weights, another_file, sample, settings, gone])
@pytest.mark.parametrize("bad", [False, True])
def test_changed_content_makes_the_version_unknown(
    contents: ContentVerdicts, change: Callable[[Path], None], bad: bool
) -> None:
    if bad:
        contents.mark_bad(KEY, contents.fingerprint(KEY), "it kills")
    else:
        contents.mark_good(KEY, contents.fingerprint(KEY))
    assert contents.unknown([KEY]) == []
    assert contents.reason_bad(KEY) == ("it kills" if bad else "")
    change(contents.path / "m")
    assert contents.unknown([KEY]) == [KEY]
    assert contents.reason_bad(KEY) == ""


def test_files_of_another_version_do_not_change_the_verdict(contents: ContentVerdicts) -> None:
    contents.mark_good(KEY, contents.fingerprint(KEY))
    of_another_version(contents.path / "m")
    assert contents.unknown([("m", 1), KEY]) == [("m", 1)]


def test_good_verdict_replaces_a_bad_one(contents: ContentVerdicts) -> None:
    contents.mark_bad(KEY, contents.fingerprint(KEY), "for want of memory")
    contents.mark_good(KEY, contents.fingerprint(KEY))
    assert (contents.is_good(KEY), contents.reason_bad(KEY)) == (True, "")


def test_what_cannot_be_looked_at_is_no_content(contents: ContentVerdicts) -> None:
    before = contents.fingerprint(KEY)
    (contents.path / "m" / "2" / "itself").symlink_to("itself")
    assert contents.fingerprint(KEY) == before
