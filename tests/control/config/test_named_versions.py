"""Versions that the routing file or the releases in force name."""

from pathlib import Path

from gateway.control.config.memory import RememberedRelease
from gateway.control.config.named_versions import named_by


def test_named_by_the_file_or_in_force(tmp_path: Path) -> None:
    file = tmp_path / "routing.yaml"
    file.write_text("models: {a: {stable: 1, candidate: 2}}")
    named = named_by(file, {"b": RememberedRelease(4)})
    keys = [("a", 1), ("a", 2), ("b", 4)]
    assert [key for name in "abc" for number in range(6) if named(key := (name, number))] == keys
    file.write_text("models: {a: {")
    assert named_by(file, {})(("a", 9))  # it may name any
