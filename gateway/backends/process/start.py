"""What control tells the process of a version at its start, as JSON; apart, since control loads no ONNX Runtime."""

from dataclasses import dataclass


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
