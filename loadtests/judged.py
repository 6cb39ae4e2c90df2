"""A model of four classes whose flaws are chosen by its inputs, so that a client knows who should be right.

A row is (fault, truth, doubt, drift). The model answers the class `truth`, except that it
    raises       where `fault` is within its rate of failures
    is mistaken  where `doubt` is within its rate of mistakes: it then answers the next class
    favours 0    where `drift` is within its rate of favour
All three are drawn by the client from [9, 10), four digits long; being within a rate of 5% means to be 9.95 or more. So
two versions differ on exactly those rows that lie between their rates.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper

from loadtests.models import rows_per_s, save, session

CLASSES: Final = 4
WIDTH: Final = 384  # of the work that makes a version slow
LOWEST: Final = 9
DIGITS: Final = 4
NAME: Final = "judged"


@dataclass(frozen=True, slots=True)
class Rates:
    """Of failures, mistakes and favour. `repeats`: how much useless work a row takes."""

    failures: float = 0.001
    mistakes: float = 0.10
    favour: float = 0.0
    repeats: int = 0


SOUND: Final = Rates()


@dataclass(frozen=True, slots=True)
class Row:
    """What a client asks."""

    fault: float
    truth: int
    doubt: float
    drift: float

    @classmethod
    def drawn(cls, generator: Random) -> "Row":
        fault, doubt, drift = (LOWEST + round(generator.random() * 0.9999, DIGITS) for _ in range(3))
        return cls(fault, generator.randrange(CLASSES), doubt, drift)

    def values(self) -> list[float]:
        return [self.fault, self.truth, self.doubt, self.drift]

    def fails(self, rates: Rates) -> bool:
        """Whether a version of these rates fails on it."""
        return self.fault > _line(rates.failures)

    def answer(self, rates: Rates) -> int:
        """What such a version answers."""
        mistaken = (self.truth + (self.doubt > _line(rates.mistakes))) % CLASSES
        return 0 if self.drift > _line(rates.favour) else mistaken


def place(repository: Path, stable: Rates, candidate: Rates) -> None:
    """The two versions, and model.yaml with their labels."""
    for version, rates in ((1, stable), (2, candidate)):
        _build(repository / NAME / str(version), rates)
    labels = [str(index) for index in range(CLASSES)]
    (repository / NAME / "model.yaml").write_text(f"prediction: {{output: y, labels: {labels}}}\n".replace("'", '"'))


def repeats_for(folder: Path, row_ms: float) -> int:
    """How many repeats a row needs to take so long here."""
    tried = 200
    _build(folder, Rates(repeats=tried))
    return max(1, round(tried * row_ms * rows_per_s(session(folder / "model.onnx"), 1, 1.0) / 1e3))


def _line(rate: float) -> float:
    return LOWEST + 1 - rate - 0.5 * 10**-DIGITS


def _build(folder: Path, rates: Rates) -> None:
    constants: dict[str, Any] = {
        "lines": np.array([[_line(rates.failures), _line(rates.mistakes), _line(rates.favour)]], np.float32),
        "drawn": np.array([0, 2, 3], np.int64),
        "at_truth": np.array([1], np.int64),
        "at_0": np.array([0], np.int64),
        "at_1": np.array([1], np.int64),
        "at_2": np.array([2], np.int64),
        "nothing": np.zeros([1], np.float32),
        "one": np.array(1, np.float32),
        "count": np.array(CLASSES, np.float32),
        "classes": np.arange(CLASSES, dtype=np.float32)[np.newaxis],
    }
    nodes = [
        helper.make_node("Gather", ["x", "drawn"], ["chances"], axis=1),
        helper.make_node("Gather", ["x", "at_truth"], ["truth"], axis=1),
        helper.make_node("Greater", ["chances", "lines"], ["within"]),
        helper.make_node("Cast", ["within"], ["flaws"], to=TensorProto.FLOAT),
        *(helper.make_node("Gather", ["flaws", f"at_{i}"], [f"flaw_{i}"], axis=1) for i in range(3)),
        helper.make_node("ReduceMax", ["flaw_0"], ["worst"], keepdims=0),
        helper.make_node("Cast", ["worst"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["nothing", "index"], ["zero"]),  # index 1 is beyond the table: the run fails
        helper.make_node("Add", ["truth", "flaw_1"], ["next"]),
        helper.make_node("Mod", ["next", "count"], ["mistaken"], fmod=1),
        helper.make_node("Sub", ["one", "flaw_2"], ["no_favour"]),
        helper.make_node("Mul", ["mistaken", "no_favour"], ["class"]),
        helper.make_node("Sub", ["classes", "class"], ["apart"]),
        helper.make_node("Abs", ["apart"], ["distance"]),
        helper.make_node("Neg", ["distance"], ["closeness"]),
        helper.make_node("Add", ["closeness", "zero"], ["scores"]),
        *_work(constants, rates.repeats),
        helper.make_node("Softmax", ["worked" if rates.repeats else "scores"], ["y"]),
    ]
    save(folder, nodes, ["n", 4], ["n", CLASSES], constants)


def _work(constants: dict[str, Any], repeats: int) -> list[Any]:
    """Products of matrices that come to nothing: each turns its rows by one place."""
    if not repeats:
        return []
    constants["spread"] = np.ones((4, WIDTH), np.float32)
    constants["turn"] = np.roll(np.eye(WIDTH, dtype=np.float32), 1, axis=1)
    constants["gather"] = np.zeros((WIDTH, CLASSES), np.float32)
    names = ["wide", *(f"turned_{i}" for i in range(repeats))]
    turns = pairwise(names)
    return [
        helper.make_node("MatMul", ["x", "spread"], ["wide"]),
        *(helper.make_node("MatMul", [source, "turn"], [target]) for source, target in turns),
        helper.make_node("MatMul", [names[-1], "gather"], ["weightless"]),
        helper.make_node("Add", ["scores", "weightless"], ["worked"]),
    ]
