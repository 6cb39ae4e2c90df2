"""Run by the Python of the tool `automl`: each learner's ONNX against Python, where neighbouring 32-bit floats differ.

Prints the largest differences by learner and task, and what `check_same` says of the file of another learner.
"""

import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
sys.path.insert(0, str(Path(__file__).parents[2] / "models"))

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
from automl_check import Trained, check_same  # noqa: E402
from automl_features import fit_encoders  # noqa: E402
from automl_graph import assemble  # noqa: E402
from automl_learners import LEARNERS, onnx_of  # noqa: E402
from automl_rows import Labelled, Rows, Target  # noqa: E402
from automl_signature import Port, Role, Signature  # noqa: E402

ROWS = 600
SMALL = {"lightgbm": {"num_leaves": 15}, "linear": {}}
LARGE = np.float32(1.7e9)  # its neighbour is 128 away


def main() -> None:
    generator = np.random.default_rng(3)
    x = (LARGE + 128 * generator.integers(0, 40, (ROWS, 2))).astype(np.float32)
    number = (x[:, 0] - LARGE) / 128 % 2 + (x[:, 1] > LARGE + 2_000)
    print(json.dumps({"differences": dict(differences(x, number)), "refused": refused(x, number)}))


def learner(name: str, task: str, x: Any, truths: Any) -> Any:
    size = {"C": 1.0} if name == "linear" else {"n_estimators": 12, **SMALL.get(name, {"max_leaves": 15})}
    one = LEARNERS[name](task=task, n_jobs=1, **size)
    one.fit(x, truths)
    return one.model


def differences(x: Any, number: Any) -> Any:
    for name in LEARNERS:
        for task, truths in (("regression", number), ("binary", number > 0), ("multiclass", number)):
            model = learner(name, task, x, truths if task == "regression" else truths.astype(int))
            python = model.predict(x) if task == "regression" else model.predict_proba(x)
            session = onnxruntime.InferenceSession(onnx_of(model, x.shape[1]).SerializeToString())
            onnx = np.asarray(session.run(None, {"features": x})[-1]).reshape(python.shape)
            yield f"{name} {task}", float(np.abs(onnx - python).max())


def refused(x: Any, number: Any) -> str:
    """What is said of a file that is right for its own learner, and of another's."""
    labels, truths = ["even", "odd"], (number > 0).astype(int)
    signature = Signature([Port("x", np.float32, (None, 2))], [(Port("scores", np.float32, (None, 2)), Role.SCORES)])
    encoders, _ = fit_encoders({"x": x})
    rows = Rows({"x": x}, truths)
    labelled = Labelled(rows.part(slice(0, 500)), rows.part(slice(500, None)), Counter())
    one, other = (learner(name, "binary", x, truths) for name in ("forest", "linear"))
    trained = Trained(one, encoders, [0, 1], Target(labels))
    check_same(trained, assemble(onnx_of(one, 2), encoders, signature, [0, 1], labels), signature, labelled)
    try:
        check_same(trained, assemble(onnx_of(other, 2), encoders, signature, [0, 1], labels), signature, labelled)
    except SystemExit as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
