"""What stops a candidate at once: failures in a row, judged after stable has been asked, and silence."""

from gateway.shm.tally import TRIPS, UNANSWERED
from gateway.worker.models.breaker import MIN_STREAK_NS, SILENCE_NS, Breaker

LIMIT = 5
EPOCH = 1
MS = 1_000_000


class Candidate:
    """A failing candidate, on a fake clock."""

    def __init__(self) -> None:
        self.breaker = Breaker(LIMIT)
        self.now_ns = 1000 * MS

    def fails(
        self,
        *,
        after_ms: int = 1,
        late: bool = False,
        excused: bool = False,
        told: int | None = None,
        epoch: int = EPOCH,
    ) -> str:
        """Report a failure. `told`: how many answers there were when it happened, if that was earlier."""
        answers = self.breaker.answers if told is None else told
        self.now_ns += after_ms * MS
        return self.breaker.failure(epoch, answers, self.now_ns, timed_out=late, unanswered=late, guilty=not excused)


def test_errors_in_a_row_stop_the_candidate_at_the_limit() -> None:
    candidate = Candidate()
    assert [candidate.fails(after_ms=0) for _ in range(LIMIT)] == [""] * (LIMIT - 1) + [TRIPS[1]]


def test_success_starts_a_new_row() -> None:
    candidate = Candidate()
    for _ in range(20):
        assert not any(candidate.fails() for _ in range(LIMIT - 1))
        candidate.breaker.success()


def test_failure_judged_after_a_later_success_is_in_no_row() -> None:
    candidate = Candidate()
    told = [candidate.breaker.answers for _ in range(LIMIT - 1)]
    candidate.breaker.success()
    assert not any(candidate.fails(told=before) for before in told)
    assert not candidate.fails()


def test_excused_failure_neither_stops_nor_breaks_a_row() -> None:
    candidate = Candidate()
    assert not any(candidate.fails(excused=True, after_ms=1000) for _ in range(1000))
    assert not any(candidate.fails() for _ in range(LIMIT - 1))
    assert not candidate.fails(excused=True)
    assert candidate.fails()


def test_timeouts_known_within_a_moment_are_not_a_row() -> None:
    """As after a pause of the process, however long: all requests in progress are late at once."""
    candidate = Candidate()
    assert not any(candidate.fails(late=True, after_ms=0) for _ in range(100))
    candidate.breaker.success()
    assert not any(candidate.fails(late=True, after_ms=MIN_STREAK_NS // MS // LIMIT) for _ in range(LIMIT))
    assert candidate.fails(late=True, after_ms=MIN_STREAK_NS // MS // LIMIT) == TRIPS[1]


def test_five_default_timeouts_last_long_enough_for_a_row() -> None:
    candidate = Candidate()
    assert [candidate.fails(late=True, after_ms=500) for _ in range(LIMIT)][-1] == TRIPS[1]


def test_late_answers_are_no_row_where_stable_is_late_too() -> None:
    candidate = Candidate()
    for _ in range(UNANSWERED // 2 - 1):
        assert not candidate.fails(late=True, excused=True, after_ms=200)
        assert not candidate.fails(late=True, after_ms=200)
    candidate.breaker.answered()
    for _ in range(3):
        assert not candidate.fails(late=True, excused=True, after_ms=200)
    assert [candidate.fails(late=True, after_ms=10) for _ in range(4)] == [""] * 3 + [TRIPS[1]]


def test_silence_stops_the_candidate_even_if_every_failure_is_excused() -> None:
    candidate = Candidate()
    found = [candidate.fails(late=True, excused=True, after_ms=350) for _ in range(UNANSWERED)]
    assert found == [""] * (UNANSWERED - 1) + [TRIPS[2]]


def test_simultaneous_timeouts_are_not_a_silence() -> None:
    candidate = Candidate()
    assert not any(candidate.fails(late=True, excused=True, after_ms=0) for _ in range(10 * UNANSWERED))


def test_any_answer_ends_a_silence() -> None:
    candidate = Candidate()
    for number in range(5):
        assert not any(candidate.fails(late=True, excused=True, after_ms=500) for _ in range(UNANSWERED - 1))
        if number % 2:
            candidate.breaker.answered()
        else:
            candidate.fails(excused=True)  # a bad answer, but one


def test_silence_begins_after_the_last_mirrored_answer() -> None:
    candidate = Candidate()
    candidate.fails(late=True, excused=True)
    candidate.now_ns += 10 * SILENCE_NS
    candidate.breaker.answered()
    assert not any(candidate.fails(late=True, excused=True) for _ in range(10 * UNANSWERED))


def test_failure_of_a_former_epoch_is_ignored() -> None:
    candidate = Candidate()
    assert not any(candidate.fails(epoch=2) for _ in range(LIMIT - 1))
    assert not any(candidate.fails(epoch=1) for _ in range(LIMIT))
    assert candidate.fails(epoch=2) == TRIPS[1]
