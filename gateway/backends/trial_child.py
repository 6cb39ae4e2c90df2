"""The scratch process of trial.py: `python -m gateway.backends.trial_child REPOSITORY PARENT_PID`.

Reads one trial per line from standard input, loads and warms up the version, and writes the result as one JSON line.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Final

from gateway.backends.loaded_version import LoadedVersion, load_version
from gateway.backends.repository import Repository
from gateway.backends.trial import LoadTrial
from gateway.errors import GatewayError
from gateway.system.scheduling import reset_priority

PARENT_S: Final = 1.0  # between two checks whether the parent is alive


def _try(repository: Repository, trial: LoadTrial) -> dict[str, object]:
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
        "unbatchable_reason": warm.unbatchable_reason,
        "single_us": warm.single_us,
        "rows": warm.rows,
        "providers": session.providers,
        "warning": session.warning,
        "off_loop_reason": loaded.loop_limits.off_loop_reason,
        "rounding": warm.rounding,
        "no_class_reason": loaded.classes.no_class_reason,
    }


def _load(repository: Repository, name: str, version: int) -> LoadedVersion:
    return load_version(repository.model_file(name, version), repository.settings(name), repository.sample(name))


def _child() -> None:
    reset_priority()  # it has inherited control's
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    repository = Repository(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(_try(repository, LoadTrial(**json.loads(line)))), flush=True)


def _end_with(parent: int) -> None:
    """End the process when the parent is gone: a load that hangs would outlive a killed parent."""
    while os.getppid() == parent:
        time.sleep(PARENT_S)
    os._exit(1)


if __name__ == "__main__":
    _child()
