"""What can be measured of a version's predictions, as plain values: for those that do not load models themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.settings.model import Kind


@dataclass(frozen=True, slots=True)
class Measurable:
    """What one output of a version predicts. `output`: its name, "" if no output predicts anything.

    `reason`: why it is compared with no truth, "" if it is. `loss_range`: the least and the greatest loss, if known.
    `described`: in words.
    """

    kind: Kind
    output: str = ""
    reason: str = ""
    loss_range: tuple[float, float] | None = None
    described: str = ""


Measurables = Sequence[Measurable]  # of a version, the main output first; empty: not known, as its server is not there
