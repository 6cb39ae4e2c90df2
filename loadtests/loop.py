"""The loop: production traffic becomes the next version, which earns its own traffic. Each step is a user's command.

    serve version 1 → customers ask, and tell the truth later → export → train → replay → check → edit → ramp → promote

Then a third version, which has learned from wrong truths, is sent up the same ramp, and stopped by the same guards.

Three sets of real images, none of which shares one with another: `first` is what customers bring until the export, so
what the new version learns from; `later` what they bring from then on, so what the replay and the ramp judge it by; and
the held-out rows of the training script, which no version and no customer ever sees.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import yaml

from gateway.offline.statistics import Rate
from loadtests import servers
from loadtests.customers import MODELS, Customers, Images, Judged, classes, digits
from loadtests.provenance import Provenance, traced
from loadtests.versus import HeldOut, against

WITHIN_S: Final = 120.0
MISTAKEN_ITERATIONS: Final = 2000  # contradictory truths take long to learn by heart
STABLE: Final = {"models": {"digits": {"stable": 1}}}
GUARDS: Final = {
    "limits": [{"name": "rescues", "metric": "candidate.rescue_rate", "above": "5%", "window": "10s"}],
    "comparisons": [
        {"name": "errors", "metric": "failures"},
        {"name": "accuracy", "metric": "wrong_feedback"},
        {"name": "pairs", "metric": "mirror_disagreement"},
    ],
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How many images customers bring before the export, and the ramp: weights in percent, each for `interval_s`.

    `fail`: whether a version that has learned from wrong truths is sent up the ramp, too. Truths come late, so at each
    weight it takes some seconds until they tell.
    """

    first: int = 700
    weights: tuple[float, ...] = (5, 25, 50, 100)
    interval_s: float = 5.0
    fail: bool = True

    def routing(self, stable: int, candidate: int) -> dict[str, Any]:
        """The edit that is the order: the candidate rises as long as nothing speaks against it."""
        digits = {
            "stable": stable,
            "candidate": candidate,
            "split": {"routes": [{"name": "everyone", "weight": "ramp"}]},
            "ramp": {"weights": list(self.weights), "interval": f"{self.interval_s:g}s", "advance": "no-violation"},
            "mirror": {"weight": 50},
            "guards": GUARDS,
        }
        return {"models": {"digits": digits}}


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, from when to when (monotonic clock), and what came of it."""

    name: str
    began_s: float
    ended_s: float
    said: str


@dataclass(frozen=True, slots=True)
class Closed:
    """What the loop has come to. `replayed`: what `gateway replay` says of version 2 on what version 1 had answered;
    `decisions`: the gateway's on version 2, oldest first; `stop`: that which ended version 3, if there was one;
    `unearned`: how many version 3 had answered by then; `answers` and `failures`: the customers'.
    """

    steps: list[Step]
    held_out: HeldOut
    replayed: dict[str, Any]
    decisions: list[dict[str, Any]]
    stop: dict[str, Any]
    unearned: int
    answers: list[Judged]
    failures: dict[str, int]
    provenance: Provenance


def close(folder: Path, plan: Plan, show: Callable[[Step], None] = lambda step: None) -> Closed:
    """Run the loop in `folder`, where all stays that it makes: models, configuration, records, data set.

    `show` is told each step when it is done. Raises AssertionError where a step does not do what it should.
    """
    return _Loop(folder, plan, show).run()


class _Loop:
    def __init__(self, folder: Path, plan: Plan, show: Callable[[Step], None]) -> None:
        self._folder, self._plan, self._show = folder, plan, show
        self._model, self._dataset = folder / "models" / "digits", folder / "dataset"
        self._steps: list[Step] = []
        self._script = digits()
        data = self._data = self._script.load()
        until = self._script.FEW + plan.first
        self._first = Images(data.train_x[self._script.FEW : until], data.train_y[self._script.FEW : until])
        self._later = Images(data.train_x[until:], data.train_y[until:])

    def run(self) -> Closed:
        with self._running() as running, Customers(running.address, self._first) as customers:
            cut_ns = self._gather(customers)
            self._train(cut_ns)
            replayed = self._replay(customers, cut_ns)
            self._order(running, stable=1, candidate=2)
            decisions = self._earn(customers)
            held_out = self._judge(running)
            self._promote(customers)
            stop = self._fail(running, customers) if self._plan.fail else {}
        with self._step("trace a prediction back") as say:
            last = customers.answers[-1].prediction_id
            found = traced(last, self._model, self._dataset, self._folder / "state" / "records")
            say(f"its model's file, code {found.revision}, its data set, {found.rows:,} recorded predictions")
        answers, failures = customers.answers, dict(customers.failures)
        unearned = sum(answer.version == 3 for answer in answers)
        return Closed(self._steps, held_out, replayed, decisions, stop, unearned, answers, failures, found)

    @contextmanager
    def _running(self) -> Iterator[servers.Running]:
        shutil.copytree(MODELS / "digits" / "1", self._model / "1")
        shutil.copy(MODELS / "digits" / "model.yaml", self._model)
        began_s = time.monotonic()
        with servers.fleet(self._folder, self._model.parent, STABLE, workers=2) as running:
            self._done("gateway serve", began_s, f"digits version 1, trained on {self._script.FEW} images")
            yield running

    def _gather(self, customers: Customers) -> int:
        """Traffic and its truths; the time in ns before which the data set ends."""
        with self._step("traffic, and the truth later") as say:
            customers.until_all_told()
            cut_ns = customers.meet(self._later)
            customers.until_all_told()
            say(f"{len(customers.answers):,} predictions, {customers.accepted:,} truths on {len(self._first)} images")
            say(f"then {len(self._later)} others")
        return cut_ns

    def _train(self, cut_ns: int) -> None:
        with self._step("gateway export") as say:
            exported = self._export(self._dataset, cut_ns)
            say(f"{exported['rows']:,} predictions, {exported['rows_with_truth']:,} with a truth")
        with self._step("models/digits/train.py --dataset") as say:
            printed = self._fit(self._dataset, self._script.FEW)
            say(printed.strip().replace(f"{self._dataset}", "the data set").replace("\n", "; "))

    def _export(self, out: Path, until_ns: int) -> Any:
        return self._gateway("export", "digits", "--out", str(out), "--until", _iso(until_ns))

    def _fit(self, dataset: Path, own_rows: int) -> str:
        script = [sys.executable, str(MODELS / "digits" / "train.py"), "--dataset", str(dataset)]
        return _done_by([*script, "--own-rows", str(own_rows), "--out", str(self._model)])

    def _replay(self, customers: Customers, cut_ns: int) -> dict[str, Any]:
        """Version 2 on what customers have brought since, each image about once: it was trained on none of that."""
        with self._step("gateway replay --version 2") as say:
            since = ("--since", _iso(cut_ns), "--limit", str(len(self._later)))
            told = self._gateway("replay", "digits", "--version", "2", *since)
            (replayed,) = told["answered_by"]
            then, now = (replayed[key] for key in ("accuracy_then", "accuracy_now"))
            say(f"right {then['rate']:.3f} then, {now['rate']:.3f} now, of {now['count']:,}")
        return dict(replayed)

    def _order(self, running: servers.Running, stable: int, candidate: int) -> None:
        draft = self._folder / "draft.yaml"
        draft.write_text(yaml.safe_dump(self._plan.routing(stable, candidate)))
        with self._step("gateway check --routing") as say:
            checked = self._gateway("check", "--routing", str(draft))
            say(", ".join(f"version {row['version']} {row['error'] or 'ready'}" for row in checked["versions"]))
        os.replace(draft, running.routing_file)

    def _earn(self, customers: Customers) -> list[dict[str, Any]]:
        """Up the ramp; the decisions that led there."""
        with self._step("the ramp") as say:
            self._ended(customers, "complete")
            decisions = self._gateway("history", "digits", "--limit", "1000")[::-1]
            say(", ".join(_rise(one) for one in decisions if one["action"] in ("advance", "complete")))
        return list(decisions)

    def _ended(self, customers: Customers, how: str) -> Any:
        """The release as it stands once its ramp has ended, which must be so: "complete" or "stopped"."""
        seen: list[Any] = []

        def over() -> bool:
            seen.append(self._gateway("status", "digits"))
            return seen[-1].get("ramp", {}).get("stage") in ("complete", "stopped")

        customers.until(over, "the ramp has ended")
        assert seen[-1]["ramp"]["stage"] == how, seen[-1]
        return seen[-1]

    def _judge(self, running: servers.Running) -> HeldOut:
        """Both versions on the held-out images, each asked for by its number."""
        data, few = self._data, self._data.first(self._script.FEW)
        held_out = Images(data.test_x, data.test_y)
        with self._step("judge on held-out images") as say:
            new, old = (self._pinned(running, version, held_out) == data.test_y for version in (2, 1))
            with warnings.catch_warnings(action="ignore"):  # on so few rows it may not have converged
                network = self._script.network().fit(few.train_x, few.train_y).predict(data.test_x) == data.test_y
            judged = HeldOut(Rate(int(new.sum()), len(new)), against(new, old), against(new, network))
            say(f"version 1 has {judged.stable.rate.value:.3f} right, version 2 {judged.rate.value:.3f}")
        return judged

    def _pinned(self, running: servers.Running, version: int, images: Images) -> Any:
        host, port = running.address
        url = f"http://{host}:{port}/v2/models/digits/versions/{version}/infer"
        return np.array(classes(httpx.post(url, json=images.inference(0, len(images))).raise_for_status().json()))

    def _promote(self, customers: Customers) -> None:
        with self._step("gateway promote") as say:
            self._gateway("promote", "digits", "--reason", "it has earned its traffic")
            before = len(customers.answers)
            customers.until(lambda: len(customers.answers) > before + 100, "customers go on")
            last = customers.answers[-1]
            assert (last.version, last.variant) == (2, "stable"), last
            say("version 2 is stable")

    def _fail(self, running: servers.Running, customers: Customers) -> dict[str, Any]:
        """A version that has learned from wrong truths; the decision that ended it."""
        with self._step("a version from wrong truths") as say, redirect_stdout(io.StringIO()) as printed:
            script, few = self._script, self._data.first(self._script.FEW)
            mistaken = np.where(np.arange(len(few.train_y)) % 2, (few.train_y + 1) % 10, few.train_y)
            inputs = [("image", script.FloatTensorType([None, 64]))]
            network = script.network().set_params(mlpclassifier__max_iter=MISTAKEN_ITERATIONS)
            network.fit(few.train_x, mistaken)
            script.write_version(self._model, 3, network, "every other truth is wrong", few, inputs)
            say(printed.getvalue().strip())
        self._order(running, stable=2, candidate=3)
        with self._step("the same ramp") as say:
            stop = self._ended(customers, "stopped")["stop"]
            say(f"stopped by {stop['by']}: {stop['reason']}")
        return dict(stop)

    def _gateway(self, *words: str) -> Any:
        """What a command says to scripts."""
        line = [sys.executable, "-m", "gateway", *words, "--json", "--config", str(self._folder / "gateway.yaml")]
        return json.loads(_done_by(line))

    @contextmanager
    def _step(self, name: str) -> Iterator[Callable[[str], None]]:
        began_s, said = time.monotonic(), list[str]()
        yield said.append
        self._done(name, began_s, "; ".join(said))

    def _done(self, name: str, began_s: float, said: str) -> None:
        self._steps.append(Step(name, began_s, time.monotonic(), said))
        self._show(self._steps[-1])


def _done_by(line: list[str]) -> str:
    ended = subprocess.run(line, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert ended.returncode == 0, f"{' '.join(line)} ended with {ended.returncode}: {ended.stderr or ended.stdout}"
    return ended.stdout


def _iso(time_ns: int) -> str:
    """In whole microseconds, rounded up."""
    return datetime.fromtimestamp(-(-time_ns // 1000) / 1e6, UTC).isoformat()


def _rise(decision: dict[str, Any]) -> str:
    return f"{decision['action']}: {decision['reason']}"
