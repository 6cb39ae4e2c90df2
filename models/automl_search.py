"""The search for a learner and its hyperparameters, by FLAML; with one seed it finds the same again."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
from automl_learners import LEARNERS, NAMES
from flaml import AutoML, tune
from sklearn.metrics import accuracy_score, f1_score, log_loss, mean_absolute_error, r2_score, roc_auc_score

FOLDS = 5
FOLDED_ROWS = 5_000  # beyond, a fifth of the rows judges instead of five folds
MOST_TREES = 500  # a version of more answers slowly
START_TREES, START_LEAVES = 50, 16

Loss = Callable[[Any, Any], float]  # of truths, and of scores [rows, classes] or numbers [rows]; 0 is perfect
CLASS_METRICS: dict[str, Loss] = {
    "log_loss": lambda truths, scores: log_loss(truths, scores, labels=np.arange(scores.shape[1])),
    "accuracy": lambda truths, scores: 1 - accuracy_score(truths, scores.argmax(axis=1)),
    "macro_f1": lambda truths, scores: 1 - f1_score(truths, scores.argmax(axis=1), average="macro"),
    "roc_auc": lambda truths, scores: 1 - _roc_auc(truths, scores),
}
NUMBER_METRICS: dict[str, Loss] = {
    "rmse": lambda truths, numbers: float(np.sqrt(np.mean((truths - numbers) ** 2))),
    "mae": mean_absolute_error,
    "r2": lambda truths, numbers: 1 - r2_score(truths, numbers),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """`metric`: its name; `max_iter`: trials; `time_limit_s`: of the search, which it may end before its last trial."""

    metric: str
    max_iter: int
    time_limit_s: float
    seed: int


@dataclass(slots=True)
class Trial:
    """A learner with hyperparameters, and its mean loss by the metric over the folds."""

    learner: str
    config: Mapping[str, Any]
    losses: list[float] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """The mean over the folds."""
        return float(np.mean(self.losses))


class SearchEnded(BaseException):
    """All trials are done, or the time limit has passed. No Exception, because FLAML takes those for failed trials."""


class Search:
    """Tries learners on features [rows, features] and truths: class numbers without a gap, or numbers."""

    def __init__(self, wanted: Wanted, features: Any, truths: Any, *, is_classes: bool) -> None:
        self.trials: list[Trial] = []
        self._time_is_up = False
        self._wanted = wanted
        self._features, self._truths = features, truths
        self._is_classes = is_classes
        self._loss = (CLASS_METRICS if is_classes else NUMBER_METRICS)[wanted.metric]
        self._folds = FOLDS if len(truths) <= FOLDED_ROWS else 1

    def run(self, on_trial: Callable[[Trial], None]) -> None:
        """Search; `on_trial` is called after each trial."""
        self._on_trial = on_trial
        logging.getLogger("flaml").setLevel(logging.CRITICAL)
        automl = AutoML()
        for name, learner in LEARNERS.items():
            automl.add_learner(name, learner)
        before = signal.signal(signal.SIGALRM, self._end)
        signal.setitimer(signal.ITIMER_REAL, self._wanted.time_limit_s)
        try:
            automl.fit(
                self._features,
                self._truths,
                task="classification" if self._is_classes else "regression",
                metric=self._measure,
                estimator_list=list(LEARNERS),
                max_iter=self._wanted.max_iter,
                time_budget=-1,  # with one, the search would depend on how fast the machine is
                eval_method="cv" if self._folds > 1 else "holdout",
                n_splits=FOLDS,
                split_ratio=1 / FOLDS,
                seed=self._wanted.seed,
                learner_selector="roundrobin",  # else a few trials may all go to one
                custom_hp=_spaces(len(self._truths)),
                n_jobs=1,
                retrain_full=False,
                auto_augment=False,
                skip_transform=True,
                verbose=0,
            )
        except SearchEnded:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        self.trials = self._complete()
        if not self.trials:
            raise SystemExit(f"no trial ended within {self._wanted.time_limit_s:g} s; raise --time-limit")

    @property
    def was_cut_short(self) -> bool:
        """Whether the time limit ended it."""
        return self._time_is_up

    def best(self) -> Trial:
        """The trial with the least loss; the first of equals."""
        return min(self.trials, key=lambda trial: trial.loss)

    def refit(self, trial: Trial) -> Any:
        """The trial's learner, trained on all rows."""
        task = "regression" if not self._is_classes else "binary" if self._truths.max() == 1 else "multiclass"
        learner = LEARNERS[trial.learner](task=task, n_jobs=1, **trial.config)
        learner.fit(self._features, self._truths)
        return learner.model

    def _measure(
        self, rows: Any, truths: Any, learner: Any, labels: Any, _x: Any, _y: Any, _w: Any, _v: Any, config: Any,
        *groups: Any,
    ) -> tuple[float, dict[str, float]]:  # fmt: skip
        """FLAML's call after each fold."""
        answers = learner.predict_proba(rows) if self._is_classes else learner.predict(rows)
        loss = float(self._loss(truths, answers))
        if not self.trials or len(self.trials[-1].losses) == self._folds:
            self.trials.append(Trial(NAMES[type(learner)], dict(config)))
        self.trials[-1].losses.append(loss)
        if len(self.trials[-1].losses) == self._folds:
            self._on_trial(self.trials[-1])
            if len(self.trials) == self._wanted.max_iter:
                raise SearchEnded  # before FLAML trains the best one again
        return loss, {}

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._time_is_up = True
        raise SearchEnded

    def _complete(self) -> list[Trial]:
        return [trial for trial in self.trials if len(trial.losses) == self._folds]


def _spaces(rows: int) -> dict[str, Any]:
    """FLAML's search spaces, but no more than MOST_TREES, and a start that is worth a trial.

    FLAML starts at four trees of four leaves, since it counts seconds; here trials are counted.
    """
    trees, leaves = _between(4, min(MOST_TREES, rows), START_TREES), _between(4, min(32_768, rows // 2), START_LEAVES)
    spaces: dict[str, Any] = {
        name: {"n_estimators": trees, "max_leaves": leaves} for name in LEARNERS if name != "linear"
    }
    spaces["lightgbm"] = {"n_estimators": trees, "num_leaves": leaves}
    return spaces


def _between(lowest: int, highest: int, start: int) -> dict[str, Any]:
    highest = max(highest, lowest + 1)
    return {"domain": tune.lograndint(lower=lowest, upper=highest), "init_value": min(start, highest - 1)}


def _roc_auc(truths: Any, scores: Any) -> float:
    if scores.shape[1] == 2:
        return float(roc_auc_score(truths, scores[:, 1]))
    return float(roc_auc_score(truths, scores, multi_class="ovr", labels=np.arange(scores.shape[1])))


def improvements(trials: Sequence[Trial]) -> list[tuple[int, Trial]]:
    """The trials that were the best so far, and the best of each other learner, with their numbers from 1 on."""
    chosen: dict[int, Trial] = {}
    best, of_learner = float("inf"), {}
    for number, trial in enumerate(trials, 1):
        if trial.loss < best:
            best, chosen[number] = trial.loss, trial
        if trial.loss < of_learner.get(trial.learner, (float("inf"), 0))[0]:
            of_learner[trial.learner] = (trial.loss, number)
    chosen |= {number: trials[number - 1] for _, number in of_learner.values()}
    return sorted(chosen.items())
