"""Run a Polyaxonfile on this machine, without a server: the command that Polyaxon renders, in the checkout.

python config/pipelines/polyaxon/run_local.py [-f FILE] [-P NAME=VALUE …]
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from polyaxon.polyaxonfile import CompiledOperationSpecification, OperationSpecification, check_polyaxonfile

HERE: Final = Path(__file__).resolve().parent
CHECKOUT: Final = HERE.parents[2]  # the image has its files in /srv
OUT: Final = CHECKOUT / "build" / "polyaxon"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-f", dest="file", default=str(HERE / "component.yaml"), help="(%(default)s)")
    parser.add_argument("-P", dest="params", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def rendered(file: str, params: list[str]) -> list[str]:
    """The command of the job as Polyaxon renders it, of what a schedule starts too. Ends the script where the file or a
    parameter is not valid.
    """
    here = [] if any(param.startswith("gateway=") for param in params) else ["gateway=http://127.0.0.1:8002"]
    operation = check_polyaxonfile(file, params=params + here, verbose=False)
    operation.schedule = None
    compiled, given = OperationSpecification.compile_operation_with_params(operation)
    compiled = CompiledOperationSpecification.apply_params(compiled, given)
    compiled = CompiledOperationSpecification.apply_operation_contexts(compiled)
    container = CompiledOperationSpecification.apply_runtime_contexts(compiled).run.container
    return [*container.command, *container.args]


def main() -> None:
    given = arguments()
    _python, *words = rendered(given.file, given.params)
    environment = os.environ | {"POLYAXON_IS_OFFLINE": "true", "POLYAXON_OFFLINE_ROOT": str(OUT)}
    if shutil.which("gateway") is None:  # no environment is activated: the commands are those of this one
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    ended = subprocess.run([sys.executable, *words], cwd=CHECKOUT, env=environment, check=False)
    if ended.returncode == 0:
        print(f"what the run has made, and Polyaxon would show: {OUT}/runs")
    sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
