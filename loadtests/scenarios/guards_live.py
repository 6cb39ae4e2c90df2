"""Guards on live traffic: each kind of harm is stopped by its guard, soon and everywhere; a harmless twin is not."""

import math
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
from rich.progress import track

from gateway.control.release.audit import recompute
from gateway.records.segments import PREDICTIONS
from loadtests import judged, servers
from loadtests.client import Client
from loadtests.crossing import Record, Watched, crossed_ns, decided_ns, is_candidates, last_candidate_ns, lines
from loadtests.guarded import Case, Found, Trips, tell
from loadtests.judged import NAME, SOUND, Rates, Row
from loadtests.judging import Judge, judged_until
from loadtests.twin import climbed

ALPHA: Final = 0.01
STABLE_MS: Final = 8.0  # of the slow case; its candidate takes three times as long
SLOW_MS: Final = 20.0
OTHERS_MS: Final = 250.0  # beyond what waiting for a core takes at saturation, which a candidate does more often
DELAY_S: Final = 0.3  # of feedback, on average
LONGEST_S: Final = 40.0  # then a harmful candidate counts as not stopped
AFTERWARDS_S: Final = 0.3
TWIN_S: Final = 60
RAMP: Final = (1, 5, 25, 50, 100)
BREAKER: Final = 5
TRIPS: Final = 20
MIRRORED: Final = "mirrored"
STOPPING: Final = {
    "errors": "failures",
    "slow": "slow_requests",
    "accuracy": "wrong_feedback",
    MIRRORED: "mirror_disagreement",
}


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """Every harmful case `rounds` / 2 times; the twin for a minute, or `rounds` · `seconds` where that is longer."""
    turns = range(max(1, rounds // 2))
    rows = [
        (case, [_run(folder / f"{case.guard}-{turn}", case, turn) for turn in track(turns, case.name, transient=True)])
        for case in _cases(folder)
    ]
    tripped = _tripped(folder / "breaker")
    length_s = max(TWIN_S, rounds * seconds)
    rules = routing(
        "ramp", ramp={"weights": RAMP, "interval": f"{length_s / (len(RAMP) + 1):.3f}s", "advance": "no-violation"}
    )
    climb = climbed(folder / "twin", rules, length_s)
    return tell(rows, Trips(BREAKER, tripped), climb)


def _cases(folder: Path) -> list[Case]:
    repeats = judged.repeats_for(folder / "calibration", STABLE_MS)
    slow, slower = Rates(repeats=repeats), Rates(repeats=3 * repeats)
    worse, other = Rates(mistakes=0.2), Rates(favour=0.3)

    def mistaken(record: Record, row: Row) -> bool:
        return row.answer(worse) != row.truth == row.answer(SOUND)

    return [
        Case("fails 5% of the time, stable 0.1%", "errors", Rates(failures=0.05), lambda r, _: bool(r["rescued_from"])),
        Case(
            "takes 3 times as long", "slow", slower, lambda r, _: bool(r["latency_us"] > SLOW_MS * 1e3), stable=slow,
            connections=2, slow_ms=SLOW_MS,
        ),
        Case("is right 10 points less often", "accuracy", worse, mistaken, delay_s=DELAY_S),
        Case(
            "predicts other classes", "drift", other, lambda _, row: row.answer(other) != row.answer(SOUND),
            weight="ramp", action="pause",
        ),
        Case(
            "is worse where it is mirrored", MIRRORED, worse, mistaken, weight=0, mirror=100, delay_s=DELAY_S
        ),
    ]  # fmt: skip


def routing(weight: int | str, mirror: int = 0, slow_ms: float = OTHERS_MS, **more: Any) -> dict[str, Any]:
    """One route for everyone, and every guard that there is; of what is mirrored only where something is, since a
    candidate with a guard that can never act is not served.
    """
    names = [name for name in STOPPING if mirror or name != MIRRORED]
    comparisons = [{"name": name, "metric": STOPPING[name]} for name in names]
    comparisons[1]["threshold"] = f"{slow_ms:g}ms"
    release = {
        "stable": 1,
        "candidate": 2,
        "split": {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": weight}]},
        "ramp": {"weights": [20, 100], "interval": "10m"},
        "mirror": {"weight": mirror},
        "guards": {
            "alpha": f"{ALPHA:.0%}",
            "breaker": {"consecutive_failures": BREAKER},
            "comparisons": [*comparisons, {"name": "drift", "metric": "predicted_class"}],
        },
        **more,
    }
    return {"models": {NAME: release}}


def _run(folder: Path, case: Case, seed: int) -> Found | None:
    """One candidate in one gateway; None where no guard has acted."""
    judged.place(folder / "models", case.stable, case.candidate)
    judge = Judge(generator=Random(seed), delay_s=case.delay_s)
    rules = routing(case.weight, case.mirror, case.slow_ms)
    with (
        servers.fleet(folder, folder / "models", rules, workers=2) as running,
        Client(running.address, case.connections, judge.request) as client,
        Client(running.address, 1, judge.feedback, reconnect=True) as teller,
        httpx.Client(base_url=running.control_url) as control,
    ):
        acted = judged_until(client, teller, judge, lambda: _decision(control, case.action) is not None, LONGEST_S)
        client.keep_busy(AFTERWARDS_S, judge)
        decision = _decision(control, case.action)
    return _found(folder / "state" / "records", case, decision) if acted and decision else None


def _decision(control: httpx.Client, action: str) -> dict[str, Any] | None:
    decisions = control.get("/api/decisions").json()
    return next((decision for decision in decisions if decision["action"] == action), None)


def _found(records: Path, case: Case, decision: dict[str, Any]) -> Found:
    evidence, acted_ns = decision["evidence"], decision["time_ns"]
    seen = [record for record in lines(records, PREDICTIONS) if decided_ns(record) <= acted_ns]
    candidates = [record for record in seen if is_candidates(record)]
    harmed = sum(case.harm(record, _row(record)) for record in candidates)
    guard = next(guard for guard in evidence["guards"] if guard["name"] == decision["by"])
    counted = guard.get("failures")
    again = recompute(evidence)
    watched = Watched(list(STOPPING.values()), ALPHA, case.slow_ms)
    crossed = crossed_ns(records, watched, evidence["time_ns"]) if candidates else None
    return Found(
        decision["by"],
        (acted_ns - min(map(decided_ns, seen))) / 1e9,
        len(seen),
        len(candidates),
        harmed,
        (sum(row[1] for row in counted), sum(row[2] for row in counted)) if counted else None,
        evidence["log10_e"][case.action],
        -math.log10(evidence["alpha_j"]),
        (last_candidate_ns(records) - crossed) / 1e6 if crossed is not None and case.action == "stop" else None,
        abs(again.combined[case.action] - evidence["log10_e"][case.action]) < 1e-9,
        sum(record["outcome"] != "ok" and not _row(record).fails(case.stable) for record in seen),
    )


def _row(record: Record) -> Row:
    fault, truth, doubt, drift = record["request"]["inputs"][0]["data"]
    return Row(fault, int(truth), doubt, drift)


def _tripped(folder: Path) -> list[int]:
    """A candidate that always fails, asked on one connection, so by one worker: how often, each time it was resumed."""
    judged.place(folder / "models", SOUND, Rates(failures=1.0))
    judge = Judge(generator=Random(0))
    with (
        servers.fleet(folder, folder / "models", routing(100), workers=2) as running,
        Client(running.address, 1, judge.request) as client,
        httpx.Client(base_url=f"{running.control_url}/api/releases/{NAME}") as control,
    ):
        for _ in range(TRIPS):
            for _ in range(2 * BREAKER):
                client.send()
                client.rest()
            control.post("/stop", json={"reason": "the breaker has been noticed by now"}).raise_for_status()
            control.post("/resume", json={"reason": "once more"}).raise_for_status()
    asked = [is_candidates(record) for record in lines(folder / "state" / "records", PREDICTIONS)]
    trips = [asked[start : start + 2 * BREAKER] for start in range(0, len(asked), 2 * BREAKER)]
    return [len(trip) if any(trip[BREAKER:]) else sum(trip) for trip in trips]
