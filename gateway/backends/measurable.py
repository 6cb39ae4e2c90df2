"""What can be measured of a version's predictions, as plain values: for those that do not load models themselves."""

from dataclasses import dataclass
from typing import Final

from gateway.settings.model import Kind


@dataclass(frozen=True, slots=True)
class Measurable:
    """What the main output of a version predicts. `kind` None: not known, as its server cannot be reached.

    `output`: its name, "" if there is none. `reason`: why it is compared with no truth, "" if it is. `ranged`: of a
    regression, its range is known. `described`: what all outputs predict.
    """

    kind: Kind | None = None
    output: str = ""
    reason: str = ""
    ranged: bool = False
    described: str = ""


NOT_KNOWN: Final = Measurable()
