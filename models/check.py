"""Whether a trained version is good enough to be proposed: its accuracy on the held-out rows, which it never saw.

Runs the file, whatever its training.json claims. Exits with 1 if the accuracy is below --at-least.
"""

import argparse
import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from training import predicted  # noqa: E402


def script(model: str) -> ModuleType:
    """The model's training script, whose `load` knows the held-out rows."""
    spec = importlib.util.spec_from_file_location("trained", HERE / model / "train.py")
    if spec is None or spec.loader is None or not (HERE / model / "train.py").exists():
        raise SystemExit(f"there is no {HERE / model / 'train.py'}, which would know the held-out rows")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="digits, tickets or tumor")
    parser.add_argument("version", type=Path, help="the folder with its model.onnx")
    parser.add_argument("--at-least", type=float, required=True, metavar="SHARE", help="such as 0.95")
    parser.add_argument("--answers", type=Path, metavar="FILE.csv", help="write each held-out row's truth and answer")
    given = parser.parse_args()
    data = script(given.model).load()
    try:
        answers = predicted(given.version / "model.onnx", data.test_x)
    except Exception as error:  # ONNX Runtime has no class of its own for what it raises
        raise SystemExit(f"{given.version / 'model.onnx'} does not run: {error}") from None
    if given.answers:
        with given.answers.open("w", newline="") as file:
            csv.writer(file).writerows([("truth", "answer"), *zip(data.test_y, answers, strict=True)])
    accuracy = (answers == data.test_y).mean()
    said = f"{given.version}: {accuracy:.4f} of {len(answers)} held-out rows are right"
    if accuracy < given.at_least:
        raise SystemExit(f"{said}, and at least {given.at_least} are asked for: it is not to be proposed")
    print(said)


if __name__ == "__main__":
    main()
