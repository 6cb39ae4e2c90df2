"""Support messages (messages.csv, written for this project): which queue should answer?"""

import csv
import sys
from pathlib import Path

import numpy as np
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from exported import write_next_version  # noqa: E402
from training import EXACT, SEED, Data, arguments, hash_of, write_version  # noqa: E402

WORDS = "[a-zA-Z0-9_]+"  # one pattern that scikit-learn and ONNX Runtime's tokenizer read alike
FEW = 80  # what version 1 was trained on, when there were fewer messages
SECOND = "TF-IDF of 2 to 5 letters, logistic regression"


def load() -> Data:
    """All messages, 30% of them held out; rows of shape [n, 1]."""
    with (HERE / "messages.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    x = np.array([[row["text"]] for row in rows], object)
    y = np.array([row["queue"] for row in rows], object)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.3, random_state=SEED, stratify=y)
    return Data("models/tickets/messages.csv", train_x, train_y, test_x, test_y, hash_of(x, y))


def main() -> None:
    wanted, data = arguments(HERE), load()
    inputs = [("text", StringTensorType([None, 1]))]
    pieces = TfidfVectorizer(analyzer="char", ngram_range=(2, 5), min_df=2)
    second = make_pipeline(pieces, LogisticRegression(C=30.0, tol=EXACT, max_iter=10_000))
    if wanted.dataset:
        write_next_version(wanted, second, SECOND, data, inputs, flat=True)
        return
    text = data.train_x.ravel()
    words = TfidfVectorizer(token_pattern=WORDS, stop_words=sorted(ENGLISH_STOP_WORDS))
    first = make_pipeline(words, LogisticRegression(C=10.0, tol=EXACT, max_iter=10_000))
    few = data.first(FEW)
    first.fit(few.train_x.ravel(), few.train_y)
    write_version(wanted.out, 1, first, f"TF-IDF of words, logistic regression on {FEW} rows", few, inputs)
    second.fit(text, data.train_y)
    write_version(wanted.out, 2, second, SECOND, data, inputs)


if __name__ == "__main__":
    main()
