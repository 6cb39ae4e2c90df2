"""Tries model versions in a scratch process: a file that crashes ONNX Runtime crashes only that process.

Parent and child (trial_child.py) speak JSON lines: one trial in on standard input, one verdict out on standard output.
"""

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from gateway.system.scheduling import lower_priority

CHILD: Final = "gateway.backends.trial_child"  # by its name, not imported: this process needs no ONNX Runtime
LOOK_S: Final = 0.2  # between two looks whether a trial is given up
GivenUp = Callable[[], str]  # why; empty where it is not


@dataclass(frozen=True, slots=True)
class LoadTrial:
    """A version to load and warm up. `stable`: the version whose requests it must be able to answer."""

    name: str
    version: int
    stable: int


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What came of a trial. `error` is empty where the version can be served; `obstacle` says why it cannot be batched.

    `single_us`, `rows` and `rounding` as its warm-up found them. `killed`: loading it ended the process; `late`: it did
    not end in time. `providers`:
    what runs it; `warning`: which were asked for and cannot be used. `in_threads`: why it does not run on the event
    loop as stable. `classless`: why no class can be read from its answers, empty where one can.
    """

    trial: LoadTrial
    error: str
    obstacle: str = ""
    single_us: float = 0.0
    rows: int = 1
    rounding: float = 0.0
    killed: bool = False
    late: bool = False
    providers: Sequence[str] = ()
    warning: str = ""
    in_threads: str = ""
    classless: str = ""


def never() -> str:
    """A trial that is not given up."""
    return ""


def try_versions(repository: Path, trials: Sequence[LoadTrial], timeout_s: float = math.inf) -> Iterator[LoadResult]:
    """The verdict on each trial, in order. A crash is blamed on the version being loaded; the others go on."""
    return Scratch(repository).try_versions(trials, timeout_s)


class Scratch:
    """Tries versions of `repository`, in one thread at a time; `end` may come from any other.

    `given_up`: why the last series was; empty where it was not.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._ended = ""
        self.given_up = ""

    def try_versions(
        self, trials: Sequence[LoadTrial], timeout_s: float, given_up: GivenUp = never
    ) -> Iterator[LoadResult]:
        """The verdict on each trial, in order. A crash is blamed on the version being loaded; the others go on.

        `timeout_s`: for a version to load and warm up; its process is then ended. `given_up` is asked now and then.
        """
        self.given_up = ""
        left = list(trials)
        while left and not self.given_up:
            for verdict in self._in_one_process(left, timeout_s, given_up):
                left.pop(0)
                yield verdict

    def end(self, why: str) -> None:
        """Give up what is under way, and all that comes."""
        self._ended = why

    def _in_one_process(self, trials: list[LoadTrial], timeout_s: float, given_up: GivenUp) -> Iterator[LoadResult]:
        with tempfile.TemporaryFile() as stderr, self._started(stderr) as child:
            for trial in list(trials):
                answer = self._asked(child, trial, timeout_s, given_up)
                if answer is None:
                    child.kill()
                    if not self.given_up:
                        yield LoadResult(trial, _late(timeout_s), late=True)
                    return
                if not answer:
                    code = child.wait()
                    stderr.seek(0)
                    yield LoadResult(trial, _death(code, stderr.read().decode(errors="replace")), killed=True)
                    return
                yield LoadResult(trial, **json.loads(answer))

    @contextlib.contextmanager
    def _started(self, stderr: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
        command = [sys.executable, "-m", CHILD, str(self._repository), str(os.getpid())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as child:
            lower_priority(child.pid, for_good=True)
            try:
                yield child
            finally:
                with contextlib.suppress(BrokenPipeError):
                    assert child.stdin is not None
                    child.stdin.close()

    def _asked(
        self, child: "subprocess.Popen[bytes]", trial: LoadTrial, timeout_s: float, given_up: GivenUp
    ) -> bytes | None:
        """The child's answer; empty where it has died, None where it does not come in time or is given up."""
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(asdict(trial)).encode() + b"\n")
            child.stdin.flush()
        end_s = time.monotonic() + timeout_s * (1 if trial.version == trial.stable else 2)
        while not select.select([child.stdout], [], [], LOOK_S)[0]:
            self.given_up = self._ended or given_up()
            if self.given_up or time.monotonic() > end_s:
                return None
        return child.stdout.readline()


def _late(timeout_s: float) -> str:
    return (
        f"it was not loaded and warmed up within models.load_timeout, {timeout_s:g} s: does a run on warmup.json end?"
        " Raise it in gateway.yaml if the version needs longer"
    )


def _death(code: int, stderr: str) -> str:
    last = stderr.strip().rpartition("\n")[2]
    if code < 0:
        return f"loading it killed the process by {signal.Signals(-code).name}; {last or 'the file is damaged'}"
    return f"loading it ended the process with code {code}; {last}"
