"""Tries model versions in a scratch process: a file that crashes ONNX Runtime crashes only that process.

Parent and child speak JSON lines: one trial in on standard input, one verdict out on standard output.
"""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.errors import GatewayError
from gateway.priority import be_ordinary
from gateway.serving.repository import Repository
from gateway.serving.version import LoadedVersion, load_version


@dataclass(frozen=True, slots=True)
class Trial:
    """A version to load and warm up. `stable`: the version whose requests it must be able to answer."""

    name: str
    version: int
    stable: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a trial. `error` is empty where the version can be served; `obstacle` says why it cannot be batched.

    `single_us`, `rows` and `rounding` as its warm-up found them. `killed`: loading it ended the process. `providers`:
    what runs it; `warning`: which were asked for and cannot be used. `in_threads`: why it does not run on the event
    loop as stable. `classless`: why no class can be read from its answers, empty where one can.
    """

    trial: Trial
    error: str
    obstacle: str = ""
    single_us: float = 0.0
    rows: int = 1
    rounding: float = 0.0
    killed: bool = False
    providers: Sequence[str] = ()
    warning: str = ""
    in_threads: str = ""
    classless: str = ""


def try_versions(repository: Path, trials: Sequence[Trial]) -> Iterator[Verdict]:
    """The verdict on each trial, in order. A crash is blamed on the version being loaded; the others go on."""
    left = list(trials)
    while left:
        for verdict in _in_one_process(repository, left):
            left.pop(0)
            yield verdict


def _in_one_process(repository: Path, trials: list[Trial]) -> Iterator[Verdict]:
    command = [sys.executable, "-m", "gateway.serving.scratch", str(repository)]
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as child,
    ):
        assert child.stdin is not None and child.stdout is not None
        for trial in list(trials):
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(asdict(trial)).encode() + b"\n")
                child.stdin.flush()
            answer = child.stdout.readline()
            if not answer:
                code = child.wait()
                stderr.seek(0)
                yield Verdict(trial, _death(code, stderr.read().decode(errors="replace")), killed=True)
                return
            yield Verdict(trial, **json.loads(answer))
        child.stdin.close()


def _death(code: int, stderr: str) -> str:
    last = stderr.strip().rpartition("\n")[2]
    if code < 0:
        return f"loading it killed the process by {signal.Signals(-code).name}; {last or 'the file is damaged'}"
    return f"loading it ended the process with code {code}; {last}"


def _try(repository: Repository, trial: Trial) -> dict[str, object]:
    try:
        loaded = _load(repository, trial.name, trial.version)
        if trial.stable != trial.version:
            stable = _load(repository, trial.name, trial.stable)
            stable.session.signature.check_replaceable_by(loaded.session.signature, trial.version)
    except GatewayError as error:
        return {"error": str(error)}
    warm = loaded.warm_up
    session = loaded.session
    return {
        "error": "",
        "obstacle": warm.obstacle,
        "single_us": warm.single_us,
        "rows": warm.rows,
        "providers": session.providers,
        "warning": session.warning,
        "in_threads": loaded.reach.obstacle,
        "rounding": warm.rounding,
        "classless": loaded.classes.obstacle,
    }


def _load(repository: Repository, name: str, version: int) -> LoadedVersion:
    return load_version(repository.model_file(name, version), repository.settings(name), repository.sample(name))


def _child() -> None:
    be_ordinary()  # control has started it
    repository = Repository(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(_try(repository, Trial(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    _child()
