"""Finds out whether a session's providers run any of its model: a provider may have no kernel for its operators."""

import contextlib
from collections.abc import Sequence
from typing import Any, Final

from gateway.settings.providers import CPU, Provider

RECORD: Final = "session.record_ep_graph_assignment_info"  # since ONNX Runtime 1.24; older ones ignore it


def record_placement(options: Any, wanted: Sequence[Provider]) -> Any:
    """Set the session option that `all_on_cpu` needs; returns the options."""
    if any(provider.name != CPU.name for provider in wanted):
        options.add_session_config_entry(RECORD, "1")
    return options


def all_on_cpu(session: Any, wanted: Sequence[Provider]) -> int:
    """The number of operators, if all run on the CPU although another provider was requested; else or unknown: 0."""
    if all(provider.name == CPU.name for provider in wanted):
        return 0
    with contextlib.suppress(Exception):  # unknown: the model is served
        placed = session.get_provider_graph_assignment_info()
        if {part.ep_name for part in placed} == {CPU.name}:
            return sum(len(part.get_nodes()) for part in placed)
    return 0
