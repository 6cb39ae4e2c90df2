"""The text before a promotion, among those that the history keeps."""

from pathlib import Path
from typing import Any

import pytest

from gateway.control.config.file_history import RoutingHistory
from gateway.control.config.undo import MOST_TEXTS, text_before
from gateway.control.release.decisions import ReleaseDecision

BEFORE = "models: {m: {stable: 1, candidate: 2, split: {routes: [{name: all, weight: 50}]}}}\n"
PROMOTED = "models: {m: {stable: 2}}\n"
OTHER = "models: {n: {stable: 1}}\n"


class Kept:
    """A history, and the decisions on the edits that replaced its texts."""

    def __init__(self, folder: Path) -> None:
        self.history = RoutingHistory(folder)
        self.decisions: list[ReleaseDecision] = []

    def edit(self, model: str, text: str) -> Path:
        kept = self.history.keep(text.encode())
        self.decide(model, kept=kept.name)
        return kept

    def decide(self, model: str, **evidence: Any) -> None:
        decision = ReleaseDecision(
            time_ns=1, model=model, candidate=2, action="edit", by="anna", reason="", evidence=evidence, sequence=1
        )
        self.decisions.append(decision)

    def text(self) -> str | None:
        return text_before(self.history, self.decisions, "m", 1, 2)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "history")


def test_text_before_the_promotion_is_found_although_the_file_was_edited_since(kept: Kept) -> None:
    kept.edit("m", BEFORE.replace("50", "10"))
    kept.edit("m", BEFORE)
    kept.edit("m", PROMOTED)
    kept.edit("", OTHER)  # many models at once
    kept.edit("n", BEFORE.replace("50", "99"))
    kept.decide("m")
    assert kept.text() == BEFORE


def test_promotion_by_an_edit_of_very_many_entries_is_found(kept: Kept) -> None:
    kept.edit("", BEFORE)
    assert kept.text() == BEFORE


def test_text_that_is_gone_or_too_far_back_is_not_found(kept: Kept) -> None:
    assert kept.text() is None
    gone = kept.edit("m", BEFORE)
    gone.unlink()
    kept.decide("m", kept="../routing.yaml")
    kept.edit("m", "models: [")
    assert kept.text() is None
    kept.edit("m", BEFORE)
    for _ in range(MOST_TEXTS):
        kept.edit("m", PROMOTED)
    assert kept.text() is None
