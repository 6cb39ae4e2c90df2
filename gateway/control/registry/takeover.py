"""What a host of a fleet does before it follows the registry for all: it takes over what the last one has found.

Until then its memory may be of long ago, or empty: it would obey once more what others have dealt with, and move an
alias over a person's later move. So it follows once what the last one has said, as if that still acted.
"""

from dataclasses import replace
from typing import Final

from gateway.control.registry.lead import Lead
from gateway.control.registry.news import ModelNews
from gateway.control.registry.readiness import Readiness

NOT_YET: Final = (
    "this host is to follow the registry, once it knows what the last one has found and has made all edits of the fleet"
)
LACKS: Final = "the host that follows the registry for the fleet has not made an edit of the model's entry, and waits: "


class Takeover:
    """`lead`: which host is to follow the registry."""

    def __init__(self, lead: Lead, readiness: Readiness) -> None:
        self.lead = lead
        self._readiness = readiness
        self._done: dict[str, int] = {}  # by model: which time as the leader it was that this was done for
        self._turn = 0

    def begin(self) -> None:
        """Look again whose turn it is. What has begun before may not be written to the registry any more."""
        self._turn = self.lead.taken

    @property
    def may_write(self) -> bool:
        """Whether what this host has begun to tell the registry is still to be told."""
        return self.lead.leads and self._turn == self.lead.taken

    def acts(self, model: str) -> bool:
        """Whether this host asks the registry about the model, and acts, for all hosts."""
        lead = self.lead
        return lead.leads and self._done.get(model, 0) == lead.taken and not lead.unreadable

    def takes_over(self, model: str) -> int | None:
        """Which time as the leader this is, if following the news now is what is left to do; else None."""
        lead = self.lead
        knows = lead.leads and lead.in_contact and lead.settled and not lead.unreadable
        return lead.taken if knows and not self._readiness.behind(model) else None

    def followed(self, model: str, turn: int | None) -> None:
        """What the last one has said is followed. `turn`: what `takes_over` was before."""
        if turn is not None:
            self._done[model] = turn

    def neglects(self, model: str) -> bool:
        """Whether this host is the one that is to follow the registry for all, and does not as to this model, for want
        of edits or of what was found before.
        """
        return self.lead.leads and not (self.acts(model) and not self._readiness.refusal(model))

    def noted(self, model: str, news: ModelNews) -> ModelNews:
        """What the others are to know of a model: also that an edit of it cannot be made here."""
        why = self._readiness.refusal(model)
        return replace(news, note=LACKS + why, problem=True) if why else news

    def elsewhere(self, model: str) -> str:
        """Why this host does not ask the registry about the model; empty if it does."""
        return self.lead.elsewhere() or ("" if self.acts(model) else NOT_YET)
