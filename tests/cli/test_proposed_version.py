"""A number names a version in the gateway's repository, anything else a place from which one is brought."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.cli.proposed_version import version_place


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("3", 3), ("20261128", 20261128), ("4294967295", 2**32 - 1)])
def test_a_number_is_a_version(text: str, number: int) -> None:
    assert version_place(text) == number


@pytest.mark.parametrize("text", ["0", "03", "4294967296", "1" + "0" * 20, "\u0663"])
def test_what_is_no_versions_number_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"whole number from 1 to 4294967295 .* a path of that name is \./"):
        version_place(text)


@pytest.mark.parametrize("text", ["../3", "-1", "3.0", "+3", "3 ", "", "1e1", "./3"])
def test_anything_else_is_a_place(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.BadParameter, match="does not exist"):
        version_place(text)


def test_a_path_that_is_a_number_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert version_place("3") == 3
    assert capsys.readouterr().err == ""
    (tmp_path / "3").mkdir()
    assert version_place("3") == 3
    assert "3 is the version in the gateway's repository; the path here is ./3" in capsys.readouterr().err
    assert version_place("./3") == Path("3")


@pytest.mark.parametrize("option", [("--version", "4"), ("--sha256", "0" * 64)])
def test_options_of_a_version_that_is_brought_are_refused(option: tuple[str, str]) -> None:
    ended = CliRunner().invoke(main, ["propose", "digits", "3", *option, "--url", "http://127.0.0.1:1"])
    assert (ended.exit_code, "not in the repository yet" in ended.stderr) == (2, True)
