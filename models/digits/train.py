"""Handwritten digits, 8 by 8 grey values from 0 to 16 (scikit-learn's load_digits): which digit is it?"""

import sys
from pathlib import Path

import numpy as np
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from exported import write_next_version  # noqa: E402
from training import EXACT, SEED, Data, arguments, hash_of, write_version  # noqa: E402

FEW = 300  # what version 1 was trained on, when there was less data
SECOND = "neural network, 64 hidden units"


def load() -> Data:
    """All 1,797 images, 30% of them held out."""
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.3, random_state=SEED, stratify=y)
    return Data("scikit-learn load_digits", train_x.astype(np.float64), train_y, test_x, test_y, hash_of(x, y))


def network() -> Pipeline:
    """What version 2 and those after it are, untrained."""
    return make_pipeline(MinMaxScaler(), MLPClassifier((64,), max_iter=400, random_state=SEED))


def main() -> None:
    wanted, data, second = arguments(HERE), load(), network()
    inputs = [("image", FloatTensorType([None, 64]))]
    if wanted.dataset:
        write_next_version(wanted, second, SECOND, data, inputs)
        return
    first = make_pipeline(MinMaxScaler(), LogisticRegression(C=0.05, tol=EXACT, max_iter=10_000))
    few = data.first(FEW)
    first.fit(few.train_x, few.train_y)
    write_version(wanted.out, 1, first, f"logistic regression on {FEW} rows", few, inputs)
    second.fit(data.train_x, data.train_y)
    write_version(wanted.out, 2, second, SECOND, data, inputs)


if __name__ == "__main__":
    main()
