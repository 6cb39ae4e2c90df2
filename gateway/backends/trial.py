"""Tries model versions in a scratch process: a file that crashes ONNX Runtime crashes only that process.

Parent and child (trial_child.py) exchange JSON lines: a trial to standard input, its result from standard output.
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
from typing import IO, Any, Final

from gateway.backends.measurable import Measurable, Measurables
from gateway.settings.model import Kind
from gateway.system.scheduling import lower_priority

CHILD: Final = "gateway.backends.trial_child"  # named, not imported: this process does not load ONNX Runtime
POLL_S: Final = 0.2  # between two checks whether a trial is cancelled
CancelCheck = Callable[[], str]  # why the trials are cancelled; empty if they are not


@dataclass(frozen=True, slots=True)
class LoadTrial:
    """A version to load and warm up. `stable`: the version whose requests it must be able to answer."""

    name: str
    version: int
    stable: int


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of a trial. `error`: why the version cannot be served, else ""; `unbatchable_reason`: why it cannot be
    batched, else "".

    `single_us`, `rows`, `rounding`: as in its WarmUp. `killed`: loading it ended the process; `timed_out`: it did not
    load in time. `providers`: those that run it; `warning`: which of those requested cannot be used. `off_loop_reason`:
    why it does not run on the event loop as stable. `measurable`: what each output predicts. `sha256`: the digest of
    its files; empty if another server runs it.
    """

    trial: LoadTrial
    error: str
    unbatchable_reason: str = ""
    single_us: float = 0.0
    rows: int = 1
    rounding: float = 0.0
    killed: bool = False
    timed_out: bool = False
    providers: Sequence[str] = ()
    warning: str = ""
    off_loop_reason: str = ""
    measurable: Measurables = ()
    sha256: str = ""


def never_cancelled() -> str:
    """The `cancel_check` of trials that are never cancelled."""
    return ""


def try_versions(repository: Path, trials: Sequence[LoadTrial], timeout_s: float = math.inf) -> Iterator[LoadResult]:
    """Yield the result of each trial, in order. A crash is attributed to the version being loaded; the others go on."""
    return TrialProcess(repository).try_versions(trials, timeout_s)


class TrialProcess:
    """Tries versions of `repository`, in one thread at a time; `end` may be called from any other thread.

    `cancel_reason`: why the last series was cancelled; empty if it was not.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._ended = ""
        self.cancel_reason = ""

    def try_versions(
        self, trials: Sequence[LoadTrial], timeout_s: float, cancel_check: CancelCheck = never_cancelled
    ) -> Iterator[LoadResult]:
        """Yield the result of each trial, in order. A crash is attributed to the version being loaded.

        `timeout_s`: for a version to load and warm up, after which its process is ended. `cancel_check` is called about
        every POLL_S while a version loads.
        """
        self.cancel_reason = ""
        left = list(trials)
        while left and not self.cancel_reason:
            for verdict in self._in_one_process(left, timeout_s, cancel_check):
                left.pop(0)
                yield verdict

    def end(self, why: str) -> None:
        """Cancel the trials under way and all later ones."""
        self._ended = why

    def _in_one_process(
        self, trials: list[LoadTrial], timeout_s: float, cancel_check: CancelCheck
    ) -> Iterator[LoadResult]:
        with tempfile.TemporaryFile() as stderr, self._started(stderr) as child:
            for trial in list(trials):
                answer = self._asked(child, trial, timeout_s, cancel_check)
                if answer is None:
                    child.kill()
                    if not self.cancel_reason:
                        yield LoadResult(trial, _late(timeout_s), timed_out=True)
                    return
                if not answer:
                    code = child.wait()
                    stderr.seek(0)
                    yield LoadResult(trial, _death(code, stderr.read().decode(errors="replace")), killed=True)
                    return
                yield _result(trial, json.loads(answer))

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
        self, child: "subprocess.Popen[bytes]", trial: LoadTrial, timeout_s: float, cancel_check: CancelCheck
    ) -> bytes | None:
        """The child's answer; empty if it died, None if it did not answer in time or the trial is cancelled."""
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(asdict(trial)).encode() + b"\n")
            child.stdin.flush()
        end_s = time.monotonic() + timeout_s * (1 if trial.version == trial.stable else 2)
        while not select.select([child.stdout], [], [], POLL_S)[0]:
            self.cancel_reason = self._ended or cancel_check()
            if self.cancel_reason or time.monotonic() > end_s:
                return None
        return child.stdout.readline()


def _result(trial: LoadTrial, answer: dict[str, Any]) -> LoadResult:
    found = [Measurable(**{**one, "kind": Kind(one["kind"])}) for one in answer.pop("measurable", ())]
    return LoadResult(trial, **answer, measurable=found)


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
