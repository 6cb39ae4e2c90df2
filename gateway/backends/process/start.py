"""What control says to the template of processes, and to workers in a process's place. Apart from the rest, since
control loads no ONNX Runtime.
"""

from dataclasses import dataclass
from typing import Final

MAX_START: Final = 1 << 16  # bytes of a message
REFUSAL: Final = b"\x00"  # to a worker in place of a greeting; why there is no process follows as text


@dataclass(frozen=True, slots=True)
class ProcessStart:
    """Which version a process runs. `checked`: its answers are checked, as a candidate's are. `behind`: it runs at
    lower priority than what serves. `first_to_go`: when memory is short, the kernel takes it before any other process.
    """

    repository: str
    name: str
    version: int
    checked: bool
    behind: bool
    first_to_go: bool
