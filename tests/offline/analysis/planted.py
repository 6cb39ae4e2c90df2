"""Recordings of real models on real data, of each kind of prediction, with slices planted in which they are bad.

Half of the requests go to each version, drawn at random. Customer `globex` is where the candidate is worse.
"""

from functools import cache
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from gateway.offline.analysis.features import FeatureNames
from gateway.offline.examples import Predicting
from gateway.offline.row_outcomes import outcomes_of
from gateway.settings.model import Kind
from tests.recording import Recording

LABELS = ("even", "round", "large")
CUSTOMERS = ("acme", "globex", "initech")
NUMBERS = Predicting("progression", Kind.REGRESSION)
TAGS = Predicting("tags", Kind.MULTILABEL, LABELS)
LISTS = Predicting("relevance", Kind.RANKING)
LIST = 10  # items of a ranked list


@cache
def diabetes() -> tuple[Any, Any, list[str], Any]:
    """Held-out rows, their truths, the features' names, and a model fitted on the other half."""
    found = load_diabetes(scaled=False)
    x, y = found.data.astype(np.float32), found.target
    return x[::2], y[::2], list(found.feature_names), Ridge(1.0).fit(x[1::2], y[1::2])


def tensor(name: str, rows: Any, datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": list(rows.shape), "datatype": datatype, "data": rows.ravel().tolist()}


def drawn(generator: Any) -> dict[str, Any]:
    """The decision of a request that either version may get."""
    candidate = bool(generator.random() < 0.5)
    return {
        "version": 2 if candidate else 1,
        "variant": "candidate" if candidate else "stable",
        "propensity": 0.5,
        "weight_ppm": 500_000,
        "bucket": int(generator.integers(1_000_000)),
        "customer": str(generator.choice(CUSTOMERS)),
    }


def regression(count: int = 900, *, flawed: bool = True) -> Recording:
    """Flawed: truths are 80 higher where bmi is high, and the candidate says 90 too little of `globex`."""
    recording, generator = Recording("diabetes"), np.random.default_rng(5)
    rows, truths, names, model = diabetes()
    obese = np.quantile(rows[:, names.index("bmi")], 0.75)
    for _ in range(count):
        index = int(generator.integers(len(rows)))
        row, truth = rows[index], float(truths[index] + generator.normal(0, 1))
        decision = drawn(generator)
        number = float(model.predict(row[None])[0])
        if flawed and row[names.index("bmi")] > obese:
            truth += 80
        if flawed and decision["variant"] == "candidate" and decision["customer"] == "globex":
            number -= 90
        prediction = recording.record(
            **decision,
            modality="tabular",
            request={"inputs": [tensor("x", row[None])]},
            response={"outputs": [tensor("progression", np.array([[number]]))]},
            predictions={"progression": [number]},
        )
        outcomes = outcomes_of(Kind.REGRESSION, number, truth, 0)
        recording.feedback(
            prediction,
            truth=truth,
            reward=float(abs(number - truth) < 60),
            metrics={"revenue": float(generator.exponential(20))},
            outcomes=outcomes,
        )
    return recording


DIABETES_NAMES = FeatureNames(("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"))


@cache
def tagged_digits() -> tuple[Any, Any, Any]:
    """Held-out images, their labels as rows of 0 and 1, and the scores of a model fitted on the other half."""
    found = load_digits()
    y = found.target
    tags = np.stack([y % 2 == 0, np.isin(y, (0, 6, 8, 9)), y >= 5], axis=1).astype(int)
    model = OneVsRestClassifier(LogisticRegression(max_iter=2000)).fit(found.data[1::2], tags[1::2])
    return found.data[::2].astype(np.float32), tags[::2], model.predict_proba(found.data[::2])


def multilabel(count: int = 400) -> Recording:
    """Three images a request; the candidate finds no label in those of `globex`."""
    recording, generator = Recording("tags"), np.random.default_rng(6)
    images, tags, scores = tagged_digits()
    for _ in range(count):
        chosen = generator.integers(len(images), size=3)
        decision, found = drawn(generator), scores[chosen].copy()
        if decision["variant"] == "candidate" and decision["customer"] == "globex":
            found[:] = 0.0
        prediction = recording.record(
            **decision,
            modality="image",
            request={"inputs": [tensor("image", images[chosen])]},
            response={"outputs": [tensor("tags", found)]},
            predictions={"tags": [np.flatnonzero(row >= 0.5).tolist() for row in found]},
        )
        truth = [[LABELS[index] for index in np.flatnonzero(row)] for row in tags[chosen]]
        recording.feedback(prediction, truth=truth, outcomes={})
    return recording


def ranking(count: int = 600) -> Recording:
    """Ten patients a list, of whom the one that fared worst is clicked; the candidate shuffles those of `globex`."""
    recording, generator = Recording("patients"), np.random.default_rng(7)
    rows, truths, _, model = diabetes()
    for _ in range(count):
        chosen = generator.integers(len(rows), size=LIST)
        decision, scores = drawn(generator), model.predict(rows[chosen])
        if decision["variant"] == "candidate" and decision["customer"] == "globex":
            scores = generator.permutation(scores)
        position = int(np.flatnonzero(np.argsort(-scores) == np.argmax(truths[chosen]))[0]) + 1
        prediction = recording.record(
            **decision,
            modality="tabular",
            request={"inputs": [tensor("x", rows[chosen])]},
            response={"outputs": [tensor("relevance", scores[:, None])]},
        )
        recording.feedback(prediction, truth=position, outcomes=outcomes_of(Kind.RANKING, LIST, position, 0))
    return recording


def mixed(count: int = 600) -> Recording:
    """Inputs of four types, each one column: the model errs on `plan: free` and where `remote` is true."""
    recording, generator = Recording("churn"), np.random.default_rng(8)
    for _ in range(count):
        plan = str(generator.choice(["free", "team", "enterprise"]))
        remote, age = bool(generator.random() < 0.5), int(generator.integers(18, 80))
        wrong = generator.random() < (0.6 if plan == "free" else 0.05)
        prediction = recording.record(
            **drawn(generator),
            modality="tabular",
            predicted=0,
            request={
                "inputs": [
                    {"name": "plan", "shape": [1, 1], "datatype": "BYTES", "data": [plan]},
                    {"name": "remote", "shape": [1], "datatype": "BOOL", "data": [remote]},
                    {"name": "age", "shape": [1, 1], "datatype": "INT64", "data": [age]},
                    tensor("usage", generator.random((1, 2))),
                ]
            },
        )
        recording.judge(prediction, int(wrong))
    return recording
