"""Whether a trained version may be proposed: it loads as the gateway will load it, and is good enough on held-out rows.

Believes nothing of its training.json: `gateway check` tries the file, and the held-out rows, which no version learns
from, are run on it here. Exits with 1, and the reason, if it does not load or its accuracy is below --at-least.
"""

import argparse
import csv
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from training import predicted  # noqa: E402


def script(model: str) -> ModuleType:
    """The model's training script, whose `load` knows the held-out rows."""
    file = HERE / model / "train.py"
    spec = importlib.util.spec_from_file_location("trained", file)
    if not file.exists() or spec is None or spec.loader is None:
        raise SystemExit(f"there is no {file}, which would know the held-out rows")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def try_to_load(model: str, version: Path) -> None:
    """Run `gateway check` on a repository with nothing but this version. Ends the script if it refuses."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(version, folder / "models" / model / "1")
        shutil.copy(HERE / model / "model.yaml", folder / "models" / model)
        (folder / "routing.yaml").write_text(f"models: {{{model}: {{stable: 1}}}}\n")
        (folder / "gateway.yaml").write_text("{models: {path: models}, routing: routing.yaml}\n")
        command = [sys.executable, "-m", "gateway", "check", "--config", "gateway.yaml", "--json"]
        checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if checked.returncode:
        errors = [row["error"] for row in json.loads(checked.stdout)["versions"]] if checked.stdout else []
        raise SystemExit(f"{version} is not to be proposed: {errors[0] if errors else checked.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="digits, tickets or tumor")
    parser.add_argument("version", type=Path, help="the folder with its model.onnx")
    parser.add_argument("--at-least", type=float, required=True, metavar="SHARE", help="such as 0.95")
    parser.add_argument("--answers", type=Path, metavar="FILE.csv", help="write each held-out row's truth and answer")
    given = parser.parse_args()
    if not (given.version / "model.onnx").exists():
        parser.error(f"there is no {given.version / 'model.onnx'}")
    data = script(given.model).load()
    try_to_load(given.model, given.version)
    answers = predicted(given.version / "model.onnx", data.test_x)
    if given.answers:
        with given.answers.open("w", newline="") as file:
            csv.writer(file).writerows([("truth", "answer"), *zip(data.test_y, answers, strict=True)])
    accuracy = (answers == data.test_y).mean()
    said = f"{given.version} loads, and {accuracy:.4f} of {len(answers)} held-out rows are right"
    if accuracy < given.at_least:
        raise SystemExit(f"{said}: it is not to be proposed, since --at-least {given.at_least} is asked for")
    print(said)


if __name__ == "__main__":
    main()
