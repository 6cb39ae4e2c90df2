"""Late events of an old epoch are no evidence in a new one: by their mark, and by their time where they have none."""

import pytest

from gateway.control.guards.comparisons import Guards
from gateway.control.guards.observation import FeedbackEvent, MirrorPair, Observation
from gateway.control.guards.window import MetricWindow
from gateway.records.token import EPOCH_MARKS, epoch_mark
from gateway.settings.guards import GuardsSettings

BEGAN_NS = 1_000
BEFORE_NS, AFTER_NS = 1, 1_000_000


def counted(epoch: int, mark: int, decided_ns: int) -> bool:
    settings = {"comparisons": [{"name": "accuracy", "metric": "wrong_feedback"}]}
    guards = Guards(GuardsSettings.model_validate(settings))
    event = FeedbackEvent(0, decided_ns, 100_000, True, None, {"wrong": 1.0}, mark)
    guards.ingest(
        Observation(time_ns=0, epoch=epoch, stopped=False, window=MetricWindow(()), feedback=[event]), BEGAN_NS
    )
    return not guards.comparisons[0].is_empty


@pytest.mark.parametrize("decided_ns", [BEFORE_NS, AFTER_NS])
@pytest.mark.parametrize("epoch", [1, 2, 3, EPOCH_MARKS - 1, EPOCH_MARKS, EPOCH_MARKS + 1, 10_000])
def test_mark_separates_epochs_whatever_the_time(epoch: int, decided_ns: int) -> None:
    assert counted(epoch, epoch_mark(epoch), decided_ns)
    for former in range(max(1, epoch - EPOCH_MARKS + 1), epoch):
        assert not counted(epoch, epoch_mark(former), decided_ns)


def test_event_with_an_unknown_mark_counts_by_its_time() -> None:
    for mark in (0, epoch_mark(9)):
        assert counted(3, mark, AFTER_NS)
        assert not counted(3, mark, BEFORE_NS)


def test_marks_fit_into_a_byte_and_are_never_zero() -> None:
    assert {epoch_mark(epoch) for epoch in range(3 * EPOCH_MARKS)} == set(range(1, 256))


def test_mirrored_pairs_of_an_old_epoch_are_ignored() -> None:
    settings = {"comparisons": [{"name": "pairs", "metric": "mirror_disagreement"}]}
    for mark, empty in ((epoch_mark(2), False), (epoch_mark(1), True), (0, False)):
        guards = Guards(GuardsSettings.model_validate(settings))
        pair = MirrorPair(candidate_wrong=True, stable_wrong=False, mark=mark)
        guards.ingest(Observation(time_ns=0, epoch=2, stopped=False, window=MetricWindow(()), pairs=[pair]), BEGAN_NS)
        assert guards.comparisons[0].is_empty == empty
