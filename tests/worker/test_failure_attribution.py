"""Attribution of failures: an identical candidate is never stopped for its inputs, a harmful one is at once."""

import asyncio
import time
from collections import deque
from pathlib import Path

import pytest

from gateway.control.guards.window import MetricWindow, Reading, Sample
from gateway.errors import (
    DeadlineExceeded,
    InvalidOutput,
    InvalidRequest,
    ModelFailed,
    NoMemory,
    Outcome,
    Overloaded,
)
from gateway.worker.call import Call
from gateway.worker.failure_attribution import Attribution, attribution_of
from gateway.worker.reply import Reply
from loadtests import moody
from loadtests.moody import Moods, row
from tests.blamed import TWIN, Bench, flawed, on_loop, routing, serving

NAN = float("nan")
PATIENCE_S = 30.0  # half a second where nothing else runs
BAD = {
    "nan": row(value=NAN),
    "refused": row(index=3),
    "fails": row(broken=1),
}
COUNTED = {"nan": 1, "refused": 0, "fails": 1}  # failures in comparisons, for each request
HEAVY = row(turns=40_000)  # tens of milliseconds


def candidates(bench: Bench, body: bytes) -> Call:
    return drawn(bench, body, "candidate")


def drawn(bench: Bench, body: bytes, variant: str) -> Call:
    call = bench.begin(body)
    while call.decision.variant != variant:
        call = bench.begin(body)
    return call


async def spent_by_stable(bench: Bench, body: bytes) -> tuple[int, int]:
    """Send a request for which neither version has the time; returns bounds of the processor time (ns) that stable had
    spent on it when the candidate's timeout was judged.
    """
    call = candidates(bench, body)
    submitted = bench.gateway.submit(call)
    await asyncio.wait((submitted,))
    rescue = bench.gateway.rescue(call, submitted)
    assert rescue is not None
    await asyncio.wait((rescue,))
    least_ns = rescue.cpu_ns
    with pytest.raises(DeadlineExceeded):
        bench.gateway.end(call, rescue)
    return least_ns, rescue.cpu_ns


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("variant", ["candidate", "stable"])
def test_failures_on_both_versions_count_for_the_drawn_one_and_stop_nothing(
    tmp_path: Path, kind: str, variant: str
) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(20):
            answer = await bench.ask(BAD[kind], variant=variant)
            if kind == "nan":
                assert answer.call.decision.variant == "stable"
                assert b'"NaN"' in answer.body, "what stable answers is sent"
            else:
                assert answer.status == {"refused": 400, "fails": 500}[kind]
        assert not bench.switch.tripped
        events = bench.events()
        assert [event.candidate for event in events] == [variant == "candidate"] * 20 * COUNTED[kind]
        assert bench.candidate == ({"excused": 20} if variant == "candidate" else {})

    on_loop(tmp_path, test)


def test_bad_inputs_do_not_affect_good_ones_in_the_same_batch(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bodies = [moody.body(one) for bad in BAD.values() for one in (bad, row(), row(2.0), bad)]
        for _ in range(5):
            calls = [candidates(bench, body) for body in bodies]
            answers = await asyncio.gather(*(bench.end(call) for call in calls))
            good = [
                answer
                for answer in answers
                if isinstance(answer, Reply) and answer.call.decision.variant == "candidate"
            ]
            assert len(good) == 6
        assert bench.candidate == {"ok": 30, "excused": 30}
        assert not bench.switch.tripped

    on_loop(tmp_path, test)


def test_candidate_that_fails_where_stable_succeeds_is_stopped_after_5(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        unlucky = row(luck=0.3)
        for number in range(5):
            assert not bench.switch.tripped
            await bench.ask(BAD["nan"], variant="candidate")  # no excuse for the others
            assert (await bench.ask(unlucky, variant="candidate")).call.decision.variant == "stable"
            assert bench.candidate == {"excused": number + 1, "invalid_output": number + 1}
        assert bench.switch.tripped
        assert all(event.candidate for event in bench.events())
        assert bench.served.versions[2].tally.read().rescues["excused"] == 5

    on_loop(tmp_path, test, flawed)


def test_limits_count_only_failures_of_the_candidate(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        window = MetricWindow([10.0])
        stable, candidate = (bench.served.versions[number].tally for number in (1, 2))
        window.sample(0.0, Sample(stable.read(), candidate.read()))
        for _ in range(3):
            await bench.ask(BAD["fails"], variant="candidate")
        await bench.ask(row(luck=0.3), variant="candidate")
        window.sample(1.0, Sample(stable.read(), candidate.read()))
        assert window.read("candidate.error_rate", 10.0) == Reading(0.25, 4)
        assert window.read("candidate.rescue_rate", 10.0) == Reading(0.25, 4)

    on_loop(tmp_path, test, flawed)


@pytest.mark.parametrize("timeout_us", [1, 50, 1_000])
@pytest.mark.parametrize("weight", [5, 100])
def test_request_with_a_deadline_too_short_for_a_rescue_goes_to_stable(
    tmp_path: Path, timeout_us: int, weight: int
) -> None:
    async def test(bench: Bench) -> None:
        body = moody.body(row(), timeout_us=timeout_us)
        for number in range(100):
            call = bench.begin(body)
            assert (call.decision.variant, call.decision.weight_ppm, call.decision.propensity) == ("stable", 0, 1.0)
            assert not call.decision.randomised
            if number < 20:
                await bench.end(call)
        assert bench.served.versions[2].tally.read().unsplit == 100
        assert (bench.candidate, bench.events(), bench.switch.tripped) == ({}, [], False)

    on_loop(tmp_path, test, rules=routing(weight))


def test_deadline_reserves_the_p99_of_stable_and_a_margin(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        pace = bench.served.stable.recent_latency
        for _ in range(2000):
            pace.add(4_000_000)
        for timeout_us, patience_ns in ((11_999, 0), (12_000, 4_000_000), (50_000, 39_750_000)):
            call = bench.begin(moody.body(row(), timeout_us=timeout_us))
            assert call.candidate_timeout_ns == patience_ns  # less 4 ms, and a margin of 4 ms or an eighth
            assert call.timeout_is_fair is (patience_ns > 0)
        call = candidates(bench, moody.body(row(), timeout_us=12_000))
        submitted = bench.gateway.submit(call)
        assert submitted.deadline_ns == call.started_ns + 4_000_000
        assert bench.begin(moody.body(row())).candidate_timeout_ns == 500_000_000, "rescue.timeout bounds it"

    on_loop(tmp_path, test)


def test_reserved_time_is_learned_from_answers_of_stable(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        answer = await bench.ask(HEAVY, variant="stable")
        takes_us = answer.duration_ns // 1000
        bench.served.stable.recent_latency.update_p99()
        assert bench.served.stable.recent_latency.p99_ns >= answer.duration_ns * 0.9
        for _ in range(30):
            assert bench.begin(moody.body(HEAVY, timeout_us=takes_us * 8 // 5)).decision.variant == "stable"
        assert not bench.switch.tripped

    on_loop(tmp_path, test)


@pytest.mark.parametrize("weight", [5, 100])
def test_hanging_candidate_is_stopped_although_all_deadlines_are_short(tmp_path: Path, weight: int) -> None:
    async def test(bench: Bench) -> None:
        await bench.ask(row(), timeout_us=1)
        began_s = time.monotonic()
        while not bench.switch.tripped:
            assert time.monotonic() - began_s < PATIENCE_S
            await bench.ask(row(luck=0.05), timeout_us=60_000, variant="candidate")
        assert sum(bench.candidate.values()) >= 5

    on_loop(tmp_path, test, flawed, routing(weight))


def test_inputs_too_slow_for_both_versions_are_excused(tmp_path: Path) -> None:
    """The candidate has 10 ms, the input takes several times as long: stable answers, and shows how long it takes."""

    async def test(bench: Bench) -> None:
        bench.set_pace(1_000_000)
        for _ in range(12):
            for variant in ("candidate", "stable"):
                assert (await bench.ask(HEAVY, variant=variant)).call.decision.variant == "stable"
        assert bench.candidate == {"excused": 12}
        assert not bench.switch.tripped
        events = [event.candidate for event in bench.events()]
        assert (events.count(True), events.count(False)) == (12, 12)

    on_loop(tmp_path, test, rules=routing(rescue={"timeout": "10ms"}))


@pytest.mark.parametrize("weight", [50, 100])
def test_deadline_just_above_the_run_time_of_an_input_is_excused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: int
) -> None:
    """The known latency of stable is from lighter inputs: by it, the deadline is fair, yet it suits neither version."""
    monkeypatch.setattr("gateway.worker.models.breaker.SILENCE_NS", 300_000_000)
    monkeypatch.setattr("gateway.worker.models.breaker.MIN_STREAK_NS", 100_000_000)

    async def test(bench: Bench) -> None:
        p99_ns, excused, began_s = 1_000_000, 0, time.monotonic()
        bench.set_pace(p99_ns)
        while excused < 25:
            assert time.monotonic() - began_s < PATIENCE_S
            least_ns, most_ns = await spent_by_stable(bench, moody.body(row(turns=400_000), timeout_us=30_000))
            more = bench.candidate.get("excused", 0) - excused
            assert more or least_ns < p99_ns
            assert not more or most_ns >= p99_ns, "no excuse where stable got no processor for its p99"
            assert not bench.switch.tripped
            excused += more
            if not more:
                bench.served.breaker.answered()  # as if to a pinned request: of such timeouts alone ten are silence

    on_loop(tmp_path, test, rules=routing(weight))


def test_timeout_before_p99_of_stable_is_no_failure_but_10_are_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.worker.models.breaker.SILENCE_NS", 500_000_000)

    async def test(bench: Bench) -> None:
        for _ in range(1000):
            bench.served.stable.recent_latency.add(90_000_000)
        for number in range(10):
            assert not bench.switch.tripped, number
            await bench.ask(row(luck=0.05), variant="candidate")
        assert bench.switch.tripped
        assert (bench.candidate, bench.events()) == ({"excused": 10}, [])

    on_loop(tmp_path, test, flawed, routing(rescue={"timeout": "60ms"}))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (InvalidRequest("-"), Attribution.STABLE_REFUSES),
        (ModelFailed("-"), Attribution.STABLE_FAILS),
        (InvalidOutput("-"), Attribution.STABLE_FAILS),
        (NoMemory("-"), Attribution.UNKNOWN),
        (Overloaded("-"), Attribution.UNKNOWN),
        (DeadlineExceeded("-"), Attribution.UNKNOWN),
        (RuntimeError("-"), Attribution.UNKNOWN),
    ],
)
def test_only_a_verdict_of_stable_on_the_input_excuses_the_candidate(
    tmp_path: Path, error: Exception, verdict: Attribution
) -> None:
    assert attribution_of(error) is verdict

    async def test(bench: Bench) -> None:
        for _ in range(5):
            call = candidates(bench, moody.body(row()))
            bench.gateway._attribution.candidate_failed(call, Outcome.MODEL_ERROR, call.started_ns + 1)
            bench.gateway._attribution.settle(call, attribution_of(error))
        assert bench.switch.tripped is (verdict is Attribution.UNKNOWN)

    on_loop(tmp_path, test)


def test_stable_without_time_to_answer_excuses_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both hang, but stable is not seen to take long: it waits for a thread that another request occupies.

    Nor does that count against the candidate: in a row of such requests it must be silent for long."""
    monkeypatch.setattr("gateway.worker.models.breaker.SILENCE_NS", 1_500_000_000)

    async def test(bench: Bench) -> None:
        bench.set_pace(1_000_000)
        for _ in range(50):
            endless = drawn(bench, moody.body(row(turns=moody.HUNG)), "stable").feeds
            blocker = bench.served.stable.infer(endless, time.monotonic_ns() + 60_000_000)
            await asyncio.sleep(0)  # a turn of the loop, in which its run begins
            answer = await bench.ask(row(luck=0.05), variant="candidate", timeout_us=30_000)
            assert isinstance(answer, DeadlineExceeded)
            assert isinstance(await asyncio.gather(blocker, return_exceptions=True), list)
            if bench.switch.tripped:
                break
        assert bench.switch.tripped
        assert bench.served.breaker._failures == 0
        assert "excused" not in bench.candidate

    comparison = {"name": "slow", "metric": "slow_requests", "threshold": "1s"}  # so that stable runs in a thread
    on_loop(tmp_path, test, flawed, routing(guards={"comparisons": [comparison]}))


def test_mirrored_or_pinned_answer_ends_a_silence(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(1000):
            bench.served.stable.recent_latency.add(60_000_000)
        for number in range(30):
            await bench.ask(row(luck=0.05), variant="candidate")
            if number % 9 == 8:
                body = moody.body(row())
                pinned = bench.gateway.begin(
                    bench.served, 2, bench.begin(body).request, bench.begin(body).attributes, bench.begin(body).source
                )
                await bench.end(pinned)
        assert not bench.switch.tripped

    on_loop(tmp_path, test, flawed, routing(rescue={"timeout": "30ms"}))


def test_request_that_stable_cannot_answer_well_is_not_mirrored(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        mirrored = bench.served.versions[2].tally
        await bench.ask(BAD["nan"])
        await bench.ask(row())
        while not sum(mirrored.read().mirrored.values()):
            await asyncio.sleep(0.001)
        assert {name: count for name, count in mirrored.read().mirrored.items() if count} == {"agree": 1}

    on_loop(tmp_path, test, rules=routing(0, mirror={"weight": 100}))


def test_timeout_is_excused_if_stable_turns_out_to_take_longer(tmp_path: Path) -> None:
    """At a start, or when the machine gets busy, the known latency of stable lags behind."""

    async def test(bench: Bench) -> None:
        pace = bench.served.stable.recent_latency
        for _ in range(3):
            bench.set_pace(1_000_000)
            call = candidates(bench, moody.body(row(luck=0.05)))
            assert call.timeout_is_fair
            submitted = bench.gateway.submit(call)
            await asyncio.wait([submitted])
            pace.p99_ns = 60_000_000
            rescue = bench.gateway.rescue(call, submitted)
            assert rescue is not None
            await asyncio.wait([rescue])
            bench.gateway.end(call, rescue)
        assert bench.candidate == {"excused": 3}

    on_loop(tmp_path, test, flawed, routing(rescue={"timeout": "30ms"}))


def test_timeout_is_not_counted_while_the_latency_of_stable_is_unknown(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.set_pace(0)
        call = bench.begin(moody.body(row(), timeout_us=10_000))
        assert (call.candidate_timeout_ns, call.timeout_is_fair) == (6_000_000, False)
        assert bench.begin(moody.body(row(), timeout_us=4_000)).candidate_timeout_ns == 0

    on_loop(tmp_path, test)


def test_without_a_candidate_nothing_is_learned_or_checked(tmp_path: Path) -> None:
    async def test() -> None:
        def twins(repository: Path) -> None:
            moody.place(repository, TWIN, Moods())

        rules = routing().model_validate({"models": {moody.NAME: {"stable": 1}}})
        async with serving(tmp_path, twins, rules) as bench:
            await bench.ask(row(value=NAN))
            assert (bench.served.stable.recent_latency._samples, bench.events()) == (deque(), [])

    asyncio.run(test())
