"""What stops a candidate at once: failures in a row, judged after stable has been asked, and silence."""

from gateway.shm.tally import TRIPS, UNANSWERED
from gateway.worker.models.breaker import LASTING_NS, SILENCE_NS, Breaker

LIMIT = 5
EPOCH = 1
MS = 1_000_000


class Candidate:
    """One that fails, on a clock of its own."""

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
        """`told`: what the breaker said when it happened, if that was a while ago."""
        answers = self.breaker.answers if told is None else told
        self.now_ns += after_ms * MS
        return self.breaker.failure(epoch, answers, self.now_ns, late=late, unanswered=late, guilty=not excused)


def test_errors_in_a_row_stop_it_at_the_limit_however_fast_they_come() -> None:
    candidate = Candidate()
    assert [candidate.fails(after_ms=0) for _ in range(LIMIT)] == [""] * (LIMIT - 1) + [TRIPS[1]]


def test_an_answer_begins_a_new_row() -> None:
    candidate = Candidate()
    for _ in range(20):
        assert not any(candidate.fails() for _ in range(LIMIT - 1))
        candidate.breaker.success()


def test_a_failure_that_is_judged_after_the_candidate_has_answered_again_is_in_no_row() -> None:
    candidate = Candidate()
    told = [candidate.breaker.answers for _ in range(LIMIT - 1)]
    candidate.breaker.success()
    assert not any(candidate.fails(told=before) for before in told)
    assert not candidate.fails()


def test_what_is_excused_stops_nothing_and_breaks_no_row() -> None:
    candidate = Candidate()
    assert not any(candidate.fails(excused=True, after_ms=1000) for _ in range(1000))
    assert not any(candidate.fails() for _ in range(LIMIT - 1))
    assert not candidate.fails(excused=True)
    assert candidate.fails()


def test_one_pause_that_makes_all_under_way_late_is_no_row() -> None:
    """However long it lasts, and however long ago they began: all of it is known within a moment."""
    candidate = Candidate()
    assert not any(candidate.fails(late=True, after_ms=0) for _ in range(100))
    candidate.breaker.success()
    assert not any(candidate.fails(late=True, after_ms=LASTING_NS // MS // LIMIT) for _ in range(LIMIT))
    assert candidate.fails(late=True, after_ms=LASTING_NS // MS // LIMIT) == TRIPS[1]


def test_default_patience_is_lasting_enough() -> None:
    candidate = Candidate()
    assert [candidate.fails(late=True, after_ms=500) for _ in range(LIMIT)][-1] == TRIPS[1]


def test_late_answers_are_no_row_where_stable_does_not_do_better() -> None:
    candidate = Candidate()
    for _ in range(UNANSWERED // 2 - 1):
        assert not candidate.fails(late=True, excused=True, after_ms=200)
        assert not candidate.fails(late=True, after_ms=200)
    candidate.breaker.answered()
    for _ in range(3):
        assert not candidate.fails(late=True, excused=True, after_ms=200)
    assert [candidate.fails(late=True, after_ms=10) for _ in range(4)] == [""] * 3 + [TRIPS[1]]


def test_silence_stops_it_whoever_is_to_blame_for_each_request() -> None:
    candidate = Candidate()
    found = [candidate.fails(late=True, excused=True, after_ms=350) for _ in range(UNANSWERED)]
    assert found == [""] * (UNANSWERED - 1) + [TRIPS[2]]


def test_ten_at_once_are_no_silence() -> None:
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


def test_a_silence_begins_after_the_last_answer_to_a_copy() -> None:
    candidate = Candidate()
    candidate.fails(late=True, excused=True)
    candidate.now_ns += 10 * SILENCE_NS
    candidate.breaker.answered()
    assert not any(candidate.fails(late=True, excused=True) for _ in range(10 * UNANSWERED))


def test_a_failure_of_an_epoch_that_is_over_counts_for_nothing() -> None:
    candidate = Candidate()
    assert not any(candidate.fails(epoch=2) for _ in range(LIMIT - 1))
    assert not any(candidate.fails(epoch=1) for _ in range(LIMIT))
    assert candidate.fails(epoch=2) == TRIPS[1]
