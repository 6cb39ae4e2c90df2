"""What a host keeps of the fleet in its state folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.control.fleet.host import NO_HOLDERS, Holders
from gateway.control.fleet.memory import FleetMemory
from gateway.control.fleet.store_state import Identity, Word

WORDS = {"m/2": Word(3, 2)}
HOLDERS = Holders({"a1b2": "host b"}, Identity("run", "key"))
GOOD = '{"fleet":"f","words":{"m/2":[3,2]},"stops":["m/3"],"sequence":7}'


class Disk:
    """Writes at once, and counts."""

    def __init__(self) -> None:
        self.writes = 0

    def replace(self, path: Path, content: Callable[[], bytes]) -> None:
        self.writes += 1
        path.write_bytes(content())


def test_what_was_kept_is_read_by_the_same_fleet_only(tmp_path: Path) -> None:
    disk = Disk()
    FleetMemory(tmp_path, "f", disk.replace).keep(WORDS, ("m/3",), 7)
    again = FleetMemory(tmp_path, "f", disk.replace)
    assert (again.words, again.stops, again.sequence) == (WORDS, ("m/3",), 7)
    again.keep(WORDS, ("m/3",), 7)
    assert disk.writes == 1, "nothing has changed"
    again.keep(WORDS, ("m/3",), 7, HOLDERS)
    assert FleetMemory(tmp_path, "f", disk.replace).holders == HOLDERS
    other = FleetMemory(tmp_path, "g", disk.replace)
    assert (other.words, other.stops, other.sequence, other.holders) == ({}, (), 0, NO_HOLDERS)


@pytest.mark.parametrize(
    "changed", [(WORDS, (), 7), ({}, ("m/3",), 7), (WORDS, ("m/3",), 8), (WORDS, ("m/3",), 7, HOLDERS)]
)
def test_each_part_that_changes_is_written(tmp_path: Path, changed: tuple[object, ...]) -> None:
    disk = Disk()
    memory = FleetMemory(tmp_path, "f", disk.replace)
    memory.keep(WORDS, ("m/3",), 7)
    memory.keep(*changed)  # type: ignore[arg-type]
    assert disk.writes == 2


@pytest.mark.parametrize(
    "change",
    [
        (GOOD, ""),
        (GOOD, "{"),
        (GOOD, "[]"),
        (GOOD, "7"),
        (GOOD, "{}"),
        ("[3,2]", "[3]"),
        ("[3,2]", '["x","2"]'),
        ("[3,2]", "null"),
        ('["m/3"]', "7"),
        ('["m/3"]', '"m/3"'),
        ('["m/3"]', "[3]"),
        ("7}", '"x"}'),
        ("7}", "1e400}"),
        ("7}", '7,"holders":[],"holders_of":["run","key"]}'),
        ("7}", '7,"holders":{"a":1},"holders_of":["run","key"]}'),
        ("7}", '7,"holders":{"a":"b"},"holders_of":["run"]}'),
    ],
)
def test_a_damaged_file_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: tuple[str, str]
) -> None:
    (tmp_path / "fleet.json").write_text(GOOD.replace(*change))
    memory = FleetMemory(tmp_path, "f", Disk().replace)
    assert (memory.words, memory.stops, memory.sequence) == ({}, (), 0)
    assert "fleet.json is left out" in caplog.text and "the decision log apply" in caplog.text
