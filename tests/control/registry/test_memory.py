"""The registry's memory survives a restart; a damaged one counts as missing."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.control.registry.memory import FILE, ModelMemory, RegistryMemory


def write(path: Path, content: Callable[[], bytes]) -> None:
    path.write_bytes(content())


def test_what_is_remembered_is_read_again(tmp_path: Path) -> None:
    first = RegistryMemory(tmp_path, write)
    one = ModelMemory(registered="digits", champion=1, challenger=None, stable=3, move_to=3, move_from=1, why="w")
    one.tags[2], one.written[2] = 77, "; evidence"
    assert [one.agree(version) for version in (1, 3, 3, 1)] == [True, True, False, True]
    one.asked, one.asked_at, one.brought, one.refused = 4, 70, 3, 4
    first.add("model", one)
    first.save()
    again = RegistryMemory(tmp_path, write)
    assert again.of("model", "digits") == one
    assert one.agreed == [3, 1]
    assert again.of("model", "another name in the registry") is None
    assert again.of("other", "digits") is None


def test_keys_of_a_later_release_are_left_out_and_missing_ones_have_defaults(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"models": {"m": {"registered": "r", "later": 1}}, "later": 2}')
    assert RegistryMemory(tmp_path, write).of("m", "r") == ModelMemory(registered="r")


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{", '{"models": []}', '{"models": {"m": 7}}', '{"models": {"m": {}}}',
        '{"models": {"m": {"registered": "r", "champion": "1"}}}',
        '{"models": {"m": {"registered": "r", "tags": {"a": 1}}}}',
        '{"models": {"m": {"registered": "r", "written": [1]}}}',
        '{"models": {"m": {"registered": "r", "agreed": [null]}}}',
        '{"models": {"m": {"registered": "r", "agreed": 7}}}',
        '{"models": {"m": {"registered": "r", "stable": null}}}', '{"models": {"m": {"registered": 7}}}',
    ],
)  # fmt: skip
def test_a_damaged_file_counts_as_missing(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_text(content)
    with caplog.at_level(logging.ERROR):
        assert RegistryMemory(tmp_path, write).of("m", "r") is None
    assert "count as seen for the first time" in caplog.text
