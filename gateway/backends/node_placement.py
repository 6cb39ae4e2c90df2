"""Whether a session's providers run any of its model: one that is in use may have no kernel for a single operator."""

import contextlib
from collections.abc import Sequence
from typing import Any, Final

from gateway.settings.providers import CPU, Provider

RECORD: Final = "session.record_ep_graph_assignment_info"  # since ONNX Runtime 1.24; others pass over it


def record_placement(options: Any, wanted: Sequence[Provider]) -> Any:
    """Session options with which `all_on_cpu` can be asked."""
    if any(provider.name != CPU.name for provider in wanted):
        options.add_session_config_entry(RECORD, "1")
    return options


def all_on_cpu(session: Any, wanted: Sequence[Provider]) -> int:
    """How many operators run on the CPU, where others were to run them and run none; 0: not so, or not known."""
    if all(provider.name == CPU.name for provider in wanted):
        return 0
    with contextlib.suppress(Exception):  # what cannot be known is not held against the model
        placed = session.get_provider_graph_assignment_info()
        if {part.ep_name for part in placed} == {CPU.name}:
            return sum(len(part.get_nodes()) for part in placed)
    return 0
