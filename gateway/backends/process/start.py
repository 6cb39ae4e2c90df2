"""What control says to the process of a version, and to workers in its place. Apart, since control loads no ONNX
Runtime.
"""

from dataclasses import dataclass
from typing import Final

REFUSAL: Final = b"\x00"  # to a worker in place of a greeting; why there is no process follows as text


@dataclass(frozen=True, slots=True)
class ProcessStart:
    """`listening`, `control`: descriptors. `checked`: answers are checked, as a candidate's are. `behind`: it runs at
    lower priority than what serves.
    """

    repository: str
    name: str
    version: int
    listening: int
    control: int
    checked: bool
    behind: bool
