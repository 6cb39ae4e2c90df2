"""What stops a candidate at once: failures in a row, judged after stable has been asked, and silence."""

from gateway.breaker import LASTING_NS, UNANSWERED, Breaker
from gateway.shm.tally import TRIPS

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
        took_ms: int = 1,
        late: bool = False,
        excused: bool = False,
        told: int | None = None,
        epoch: int = EPOCH,
    ) -> str:
        """`told`: what the breaker said when it happened, if that was a while ago."""
        answers = self.breaker.answers if told is None else told
        began_ns, self.now_ns = self.now_ns, self.now_ns + took_ms * MS
        return self.breaker.failure(epoch, answers, began_ns, self.now_ns, late=late, unanswered=late, excused=excused)


def test_errors_in_a_row_stop_it_at_the_limit_however_fast_they_come() -> None:
    candidate = Candidate()
    assert [candidate.fails(took_ms=0) for _ in range(LIMIT)] == [""] * (LIMIT - 1) + [TRIPS[1]]


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
    assert not any(candidate.fails(excused=True, took_ms=1000) for _ in range(1000))
    assert not any(candidate.fails() for _ in range(LIMIT - 1))
    assert not candidate.fails(excused=True)
    assert candidate.fails()


def test_one_pause_that_makes_all_under_way_late_is_no_row() -> None:
    candidate = Candidate()
    assert not any(candidate.fails(late=True, took_ms=0) for _ in range(100))
    candidate.breaker.success()
    assert not any(candidate.fails(late=True, took_ms=LASTING_NS // MS // LIMIT - 1) for _ in range(LIMIT))
    assert candidate.fails(late=True, took_ms=LASTING_NS // MS) == TRIPS[1]


def test_default_patience_is_lasting_enough() -> None:
    candidate = Candidate()
    assert [candidate.fails(late=True, took_ms=500) for _ in range(LIMIT)][-1] == TRIPS[1]


def test_silence_stops_it_whoever_is_to_blame_for_each_request() -> None:
    candidate = Candidate()
    found = [candidate.fails(late=True, excused=True, took_ms=100) for _ in range(UNANSWERED)]
    assert found == [""] * (UNANSWERED - 1) + [TRIPS[2]]


def test_any_answer_ends_a_silence() -> None:
    candidate = Candidate()
    for _ in range(5):
        assert not any(candidate.fails(late=True, excused=True, took_ms=100) for _ in range(UNANSWERED - 1))
        candidate.breaker.heard()


def test_a_failure_of_an_epoch_that_is_over_counts_for_nothing() -> None:
    candidate = Candidate()
    assert not any(candidate.fails(epoch=2) for _ in range(LIMIT - 1))
    assert not any(candidate.fails(epoch=1) for _ in range(LIMIT))
    assert candidate.fails(epoch=2) == TRIPS[1]
