"""Breast tumours, 30 measurements of cell nuclei (scikit-learn's load_breast_cancer): malignant or benign?"""

import sys
from pathlib import Path

import numpy as np
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from exported import write_next_version  # noqa: E402
from training import EXACT, SEED, Data, arguments, hash_of, write_version  # noqa: E402

SECOND = "logistic regression on scaled features"


def load() -> Data:
    """All 569 tumours, 40% of them held out; class 0 is malignant, 1 benign."""
    x, y = load_breast_cancer(return_X_y=True)
    x = x.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.4, random_state=SEED, stratify=y)
    return Data("scikit-learn load_breast_cancer", train_x.astype(np.float64), train_y, test_x, test_y, hash_of(x, y))


def main() -> None:
    wanted, data = arguments(HERE), load()
    inputs = [("features", FloatTensorType([None, 30]))]
    second = make_pipeline(StandardScaler(), LogisticRegression(tol=EXACT, max_iter=10_000))
    if wanted.dataset:
        write_next_version(wanted, second, SECOND, data, inputs)
        return
    first = DecisionTreeClassifier(max_depth=3, random_state=SEED).fit(data.train_x, data.train_y)
    write_version(wanted.out, 1, first, "decision tree of depth 3", data, inputs)
    second.fit(data.train_x, data.train_y)
    write_version(wanted.out, 2, second, SECOND, data, inputs)


if __name__ == "__main__":
    main()
