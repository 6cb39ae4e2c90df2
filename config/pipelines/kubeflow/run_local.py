"""Run the pipeline on this machine, without a cluster: each step is a process of its own.

python config/pipelines/kubeflow/run_local.py [PARAMETER=VALUE …]
"""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, Final

from kfp import local
from pipeline import next_version

CHECKOUT: Final = Path(__file__).resolve().parents[3]
OUT: Final = CHECKOUT / "build" / "kubeflow"
HERE: Final = {"gateway": "http://127.0.0.1:8002", "code": str(CHECKOUT / "models")}


def parameters(words: list[str]) -> dict[str, Any]:
    """The pipeline's parameters as given, each as its type. Ends the script where there is no such parameter."""
    types = {name: type(spec.default) for name, spec in next_version.component_spec.inputs.items()}
    given: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name not in types or not equals:
            sys.exit(f"{word!r} is no PARAMETER=VALUE; the parameters are {', '.join(types)}")
        try:
            given[name] = text if types[name] is str else types[name](json.loads(text))
        except ValueError:
            sys.exit(f"{name} is a {types[name].__name__}, such as {json.dumps(types[name](1))}, and not {text!r}")
    return given


def main() -> None:
    if shutil.which("gateway") is None:  # no environment is activated: the steps' commands are those of this one
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    warnings.filterwarnings("ignore", "You may be attemping to run a task that uses custom", RuntimeWarning)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(OUT), raise_on_error=False)
    outputs = next_version(**HERE | parameters(sys.argv[1:])).outputs
    if not outputs:
        sys.exit("the run failed; the reason is above")
    shutil.copy(outputs["analysis"].path, OUT / "analysis.html")
    print(f"metrics: {json.dumps(outputs['metrics'].metadata)}")
    print(f"version {outputs['version']} is the candidate; {OUT}/analysis.html says what those before it do wrong")


if __name__ == "__main__":
    main()
