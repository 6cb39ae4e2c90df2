"""The output of the commands: to a full disk, to a reader that has left or is slow, and in an encoding that lacks
characters.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest

from gateway.settings.keys import load_keys

ROOT = Path(__file__).parents[2]
EXPLAIN = ("explain", "digits")


def gateway(
    arguments: Sequence[str],
    output: "IO[str] | int",
    encoding: str = "utf-8",
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [("--help",), EXPLAIN], ids=" ".join)
def test_full_disk_is_told_in_a_sentence(arguments: Sequence[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = gateway(arguments, full)
        assert (ended.returncode, ended.stderr) == (1, "the output cannot be written: No space left on device\n")


def test_key_that_could_not_be_shown_is_not_kept(tmp_path: Path) -> None:
    config, keys = tmp_path / "gateway.yaml", tmp_path / "keys.yaml"
    config.write_text(f"auth: {{keys: {keys}}}\n")
    words = ("keys", "add", "--customer", "acme", "--scope", "predict", "--config", str(config))
    with Path("/dev/full").open("w") as full:
        ended = gateway(words, full)
    assert (ended.returncode, ended.stderr) == (1, "the output cannot be written: No space left on device\n")
    assert load_keys(keys).keys == ()


def test_reader_that_has_left_gets_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = gateway(EXPLAIN, writer)
        assert (ended.returncode, ended.stderr) == (1, "")
    finally:
        os.close(writer)


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    ended = gateway(EXPLAIN, subprocess.PIPE, encoding="latin-1")
    assert ended.returncode == 0, ended.stderr
    assert "\\u2713" in ended.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_stream_that_does_not_block_gets_all_of_the_output(stream: str, unbuffered: str) -> None:
    long = "c" * 100_000
    arguments = ("explain", "digits", "--customer", long) if stream == "stdout" else ("explain", long)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with (
        subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
            stdout=writer if stream == "stdout" else subprocess.DEVNULL,
            stderr=writer if stream == "stderr" else subprocess.PIPE,
        ) as process,
        os.fdopen(reader, "rb") as output,
    ):
        os.close(writer)
        written = output.read()
        said = process.stderr.read() if process.stderr else b""
        assert process.wait(60) == (0 if stream == "stdout" else 1), said
    assert long.encode() in written
    assert written.endswith(b"matches every request\n" if stream == "stdout" else b"there are digits, tickets, tumor\n")
