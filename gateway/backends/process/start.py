"""What control sends to the template of processes, and to workers instead of a process. In a module of its own, since
control does not load ONNX Runtime.
"""

from dataclasses import dataclass
from typing import Final

HUNG: Final = 70  # the exit code of a process that ends itself, since a run has not ended when it was told to
MAX_START: Final = 1 << 16  # bytes of a message
REFUSAL: Final = b"\x00"  # to a worker instead of a greeting; why there is no process follows as text


@dataclass(frozen=True, slots=True)
class ProcessStart:
    """The version that a process runs. `checked`: its answers are checked, as a candidate's are. `behind`: it runs at
    lower priority than the serving processes. `first_to_go`: when memory is short, the kernel kills it first.
    """

    repository: str
    name: str
    version: int
    checked: bool
    behind: bool
    first_to_go: bool
