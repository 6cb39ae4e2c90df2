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

HERE: Final = Path(__file__).parent
CHECKOUT: Final = HERE.parents[2]  # which the image has as /srv


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-f", dest="file", default=str(HERE / "component.yaml"), help="(%(default)s)")
    parser.add_argument("-P", dest="params", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def rendered(file: str, params: list[str]) -> list[str]:
    """The command of the job, as Polyaxon renders it; without the schedule, as its scheduler starts it.

    Ends the script where the file or a parameter is not valid.
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
    environment = os.environ | {"POLYAXON_IS_OFFLINE": "true", "POLYAXON_OFFLINE_ROOT": str(CHECKOUT / "build/polyaxon")}
    if shutil.which("gateway") is None:  # no environment is activated: the commands are those of this one
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    ended = subprocess.run(rendered(given.file, given.params), cwd=CHECKOUT, env=environment, check=False)
    sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
