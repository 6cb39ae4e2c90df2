"""An edit by command changes the bytes of the edit and no others: line ends, byte order mark, mode, owner stay."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gateway.backends.repository import Repository
from gateway.control.config.editor import Edit, EditResult, RoutingEditor
from gateway.control.config.file_history import MAX_TEXTS, RoutingHistory
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.config.yaml_edit import promote, set_weight
from gateway.control.release.decisions import DecisionLog
from gateway.errors import Conflict, SettingsError
from gateway.settings.routing_file import MAX_BYTES, parse_routing

TEXT = b"""\
# Who meets whom: \xc3\xa9\xf0\x9f\x90\xa4
models:
  m:   # the only one
    stable: 1
    candidate: 2
    split:
      routes:
        - {name: all, weight: 50}   # everyone
    rescue: {timeout: 1s}
"""
FORMS = {
    "lf": TEXT,
    "crlf": TEXT.replace(b"\n", b"\r\n"),
    "bom": b"\xef\xbb\xbf" + TEXT,
    "bom-crlf": b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n"),
    "mixed": TEXT.replace(b"\n", b"\r\n", 4),
    "no-end": TEXT.rstrip(),
    "crlf-no-end": TEXT.replace(b"\n", b"\r\n").rstrip(),
}


def carried_out(folder: Path, make: Callable[..., str], *, in_force: bool) -> EditResult:
    """Carry out the edit of the file in `folder`; `in_force`: whether the reload accepts the edited text."""
    (folder / "models").mkdir()
    configuration = RoutingFileWatcher(folder / "routing.yaml", Repository(folder / "models"))
    stops = DecisionLog(folder / "state")

    async def reload(written: bytes, note: Callable[[], object]) -> None:
        now = configuration.read()
        assert now is not None
        if in_force or (b"12.5" not in now.content and b"stable: 2" not in now.content):
            configuration.record_success()
        else:
            configuration.record_failure(SettingsError("routing.yaml", ["does not load"]))

    edit = Edit(
        model="m", candidate=2, action="edit", make=partial(make, model="m"), by="me", reason="why", evidence={}
    )
    editor = RoutingEditor(configuration, stops, reload, RoutingHistory(folder / "state" / "history"))
    try:
        return asyncio.run(editor.apply(edit, dry_run=False))
    finally:
        stops.close()


WEIGHT = partial(set_weight, route="all", percent=12.5)


@pytest.mark.parametrize("form", FORMS)
def test_weight_edit_changes_no_other_byte(tmp_path: Path, form: str) -> None:
    file = tmp_path / "routing.yaml"
    file.write_bytes(FORMS[form])
    file.chmod(0o664)
    done = carried_out(tmp_path, WEIGHT, in_force=True)
    assert file.read_bytes() == FORMS[form].replace(b"weight: 50", b"weight: 12.5")
    assert file.stat().st_mode & 0o777 == 0o664
    assert done.decision is not None
    assert (tmp_path / "state/history" / done.decision.evidence["kept"]).read_bytes() == FORMS[form]


@pytest.mark.parametrize("form", FORMS)
def test_promotion_removes_whole_lines(tmp_path: Path, form: str) -> None:
    file = tmp_path / "routing.yaml"
    file.write_bytes(FORMS[form])
    carried_out(tmp_path, promote, in_force=True)
    lines = FORMS[form].splitlines(keepends=True)
    assert file.read_bytes() == b"".join([*lines[:3], lines[3].replace(b"1", b"2"), lines[8]])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [WEIGHT, promote])
def test_failed_edit_is_rolled_back_byte_for_byte(tmp_path: Path, form: str, make: Callable[..., str]) -> None:
    file = tmp_path / "routing.yaml"
    file.write_bytes(FORMS[form])
    with pytest.raises(Conflict, match=r"not in force, and rolled back: .*does not load"):
        carried_out(tmp_path, make, in_force=False)
    assert file.read_bytes() == FORMS[form]


@pytest.mark.parametrize("late", [False, True], ids=["before it is written", "before it is read"])
def test_concurrent_edit_by_hand_is_not_lost(tmp_path: Path, late: bool) -> None:
    file = tmp_path / "routing.yaml"
    file.write_bytes(TEXT)
    (tmp_path / "models").mkdir()
    configuration = RoutingFileWatcher(file, Repository(tmp_path / "models"))
    stops = DecisionLog(tmp_path / "state")
    others = TEXT + b"# by hand\n"

    async def reload(written: bytes, note: Callable[[], object]) -> None:
        if late:
            file.write_bytes(others)
        configuration.read()
        configuration.record_success()

    def make(text: str) -> str:
        if not late:
            file.write_bytes(others)
        return set_weight(text, "m", "all", 12.5)

    editor = RoutingEditor(configuration, stops, reload, RoutingHistory(tmp_path / "state" / "history"))
    with pytest.raises(Conflict, match="edited"):
        asyncio.run(
            editor.apply(
                Edit(model="m", candidate=2, action="weight", make=make, by="me", reason="why", evidence={}),
                dry_run=False,
            )
        )
    stops.close()
    assert file.read_bytes() == others
    assert stops.decisions == [], "whose text is in force keeps the decision"


def test_edit_keeps_the_owner_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "routing.yaml"
    file.write_bytes(TEXT)
    owner = (1234, 5678) if os.getuid() == 0 else (os.getuid(), os.getgid())  # only root may give a file away
    os.chown(file, *owner)
    carried_out(tmp_path, WEIGHT, in_force=True)
    assert (file.stat().st_uid, file.stat().st_gid) == owner


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("models: {}".encode("utf-16"), "UTF-16; save it as UTF-8"),
        (b"models: {}\n# \xff\n", "line 2: cannot be read: not UTF-8"),
        (b"models: {}\x00\x00", "routing.yaml: "),
        (b"models:\n", "models"),
        (b"# " * MAX_BYTES, "8 MiB is the limit"),
    ],
)
def test_content_that_is_no_routing_file_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse_routing(content, "routing.yaml")


def test_history_keeps_as_many_files_as_can_be_read(tmp_path: Path) -> None:
    history = RoutingHistory(tmp_path)
    for number in range(MAX_TEXTS + 3):
        (tmp_path / f"routing-20200101T000000Z-{number:012}.yaml").touch()
    kept = history.keep(b"models: {}")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert (len(names), names[-1]) == (MAX_TEXTS, kept.name)
    for number in range(MAX_TEXTS):
        (tmp_path / f"routing-20990101T000000Z-{number:012}.yaml").touch()
    assert history.keep(b"models: {m: {stable: 1}}").exists(), "the clock has been set back"
