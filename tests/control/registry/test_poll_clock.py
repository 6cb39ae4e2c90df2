"""When the registry is polled, with hints and without."""

from gateway.control.registry.poll_clock import HINT_S, LONGEST_RETRY_S, MOST_MISSED, PollClock


def polled(clock: PollClock, *times_s: float) -> list[float]:
    """Those of the times at which a poll begins."""
    return [now_s for now_s in times_s if clock.may_ask(now_s) and clock.polls(now_s)]


def test_it_is_polled_at_once_and_then_regularly() -> None:
    assert polled(PollClock(10.0), 0.0, 5.0, 10.0, 15.0, 20.0) == [0.0, 10.0, 20.0]


def test_hints_bring_at_most_one_poll_a_second_whatever_comes() -> None:
    clock, found = PollClock(3600.0), []
    for step in range(100):  # within 5 s
        clock.hint()
        found += polled(clock, step * 0.05)
    assert [round(now_s, 2) for now_s in found] == [0.0, HINT_S, 2 * HINT_S, 3 * HINT_S, 4 * HINT_S]
    assert polled(clock, 5.0, 6.0, 100.0) == [5.0]  # for the last hint, and no more


def test_a_registry_that_does_not_answer_is_asked_at_growing_intervals_unless_a_hint_says_that_it_is_back() -> None:
    clock, now_s, pauses = PollClock(10.0), 0.0, []
    for _ in range(8):
        clock.missed(now_s)
        began_s = now_s
        while not polled(clock, now_s):
            now_s += 1.0
        pauses.append(now_s - began_s)
    assert pauses == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 60.0, 60.0]
    assert max(pauses) == 10.0 * MOST_MISSED
    clock.missed(now_s)
    clock.hint()
    assert polled(clock, now_s + 0.5, now_s + 1.0, now_s + 2.0) == [now_s + 1.0]
    clock.missed(now_s + 1.0)
    clock.answered()
    clock.missed(now_s + 1.0)
    assert not clock.may_ask(now_s + 10.9)
    assert clock.may_ask(now_s + 11.0)


def test_what_has_failed_is_tried_again_within_minutes_even_where_polls_are_rare() -> None:
    clock = PollClock(3600.0)
    assert polled(clock, 0.0) == [0.0]
    clock.missed(0.0)
    assert polled(clock, 59.0, 60.0, 120.0) == [60.0]
    assert clock.retry_s == LONGEST_RETRY_S
    assert PollClock(10.0).retry_s == 10.0


def test_a_host_that_begins_to_ask_does_so_at_once() -> None:
    clock = PollClock(10.0)
    assert polled(clock, 0.0) == [0.0]
    clock.missed(0.0)
    clock.begin_anew()
    assert polled(clock, 0.5) == [0.5]


def test_what_has_to_wait_is_looked_at_within_a_minute_where_polls_are_rare_and_no_sooner_where_they_are_not() -> None:
    clock = PollClock(3600.0)
    assert polled(clock, 0.0) == [0.0]
    for now_s in (0.5, 1.0, 1.5):
        clock.waits(now_s)
    assert polled(clock, 60.0, 60.5, 120.5, 3660.5) == [60.5, 3660.5]
    clock = PollClock(10.0)
    assert polled(clock, 0.0) == [0.0]
    clock.waits(0.5)
    assert polled(clock, 9.5, 10.0, 19.5, 20.0) == [10.0, 20.0]
