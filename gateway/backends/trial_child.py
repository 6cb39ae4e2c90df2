"""The scratch process of trial.py: `python -m gateway.backends.trial_child REPOSITORY PARENT_PID`.

Reads one trial per line from standard input, loads and warms up the version, and writes the result as one JSON line.
"""

import asyncio
import json
import math
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from gateway.backends.loaded_version import load_version
from gateway.backends.remote.facts import facts_of
from gateway.backends.remote.server import Server
from gateway.backends.repository import Repository
from gateway.backends.trial import LoadTrial
from gateway.backends.version_facts import VersionFacts
from gateway.errors import GatewayError, ModelUnavailable, ServerUnreachable
from gateway.system.scheduling import reset_priority

PARENT_S: Final = 1.0  # between two checks whether the parent is alive


def _try(repository: Repository, trial: LoadTrial) -> dict[str, object]:
    try:
        facts = _facts(repository, trial.name, trial.version)
        if trial.stable != trial.version:
            stable = _facts(repository, trial.name, trial.stable)
            stable.signature.check_replaceable_by(facts.signature, trial.version)
    except ServerUnreachable as error:  # it may be there by the time that the version is served
        return {"error": "", "warning": f"not checked: {error}"}
    except GatewayError as error:
        return {"error": str(error)}
    warm = facts.warm_up
    return {
        "error": "",
        "unbatchable_reason": warm.unbatchable_reason,
        "single_us": 0.0 if math.isnan(warm.single_us) else warm.single_us,
        "rows": warm.rows,
        "providers": facts.providers,
        "warning": facts.warning,
        "off_loop_reason": facts.loop_limits.off_loop_reason,
        "rounding": warm.rounding,
        "sha256": facts.sha256,
        "measurable": [asdict(one) for one in facts.predictions.measurable],
    }


def _facts(repository: Repository, name: str, version: int) -> VersionFacts:
    """Load the version, or ask the server that runs it. Raises ModelUnavailable, SettingsError."""
    settings = repository.settings(name)
    if not repository.is_remote(name, version):
        return load_version(repository.model_file(name, version), settings, repository.sample(name))
    file = repository.remote_file(name, version)
    try:
        return asyncio.run(facts_of(Server(name, file), settings))[0]
    except ModelUnavailable as error:
        raise error if str(file) in str(error) else type(error)(f"{file}: {error}") from None


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
