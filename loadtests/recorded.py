"""What a client was told, against what a gateway has recorded."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from gateway.records.segments import PREDICTIONS, segments
from loadtests.client import Answer, Seen

OK: Final = 200


@dataclass(slots=True)
class Told(Seen):
    """A client that keeps the id of every prediction that it was answered with."""

    ids: list[str] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        Seen.add(self, answer)
        if answer.status == OK:
            self.ids.append(orjson.loads(answer.body)["parameters"]["prediction_id"])


@dataclass(frozen=True, slots=True)
class Compared:
    """`missing`: answered and not recorded; `twice`: recorded more than once; `torn`: lines that are no records.

    `recorded` may be more than `answered`: a worker that dies between recording and sending is heard of only here.
    """

    answered: int
    recorded: int
    missing: int
    twice: int
    torn: int

    @property
    def exact(self) -> bool:
        return not (self.missing or self.twice or self.torn)


def compared(records: Path, ids: list[str]) -> Compared:
    """The ids that a client was told, against all segments in the folder of records."""
    found: Counter[str] = Counter()
    torn = 0
    for path in segments(records, PREDICTIONS):
        with path.open("rb") as file:
            for line in file:
                try:
                    found[orjson.loads(line)["prediction_id"]] += 1
                except (orjson.JSONDecodeError, KeyError):
                    torn += 1
    twice = sum(count > 1 for count in found.values())
    return Compared(len(ids), found.total(), len(set(ids) - set(found)), twice, torn)
