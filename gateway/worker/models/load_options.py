"""How a configuration is prepared in a worker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.messages import NO_PROCESSES, ProcessSockets
from gateway.version_key import VersionKey


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a configuration is prepared. `catch_up`: it is in force elsewhere already, so a candidate that does not load
    is left out, as at a start. `reload`: models whose files are read again. `unavailable`, `unloaded`, `sockets`: as in
    ModelCatalog. `kept`: by model, the version to keep loaded for an undo of its promotion.
    """

    unavailable: Mapping[VersionKey, str] = field(default_factory=dict)
    sockets: ProcessSockets = NO_PROCESSES
    catch_up: bool = False
    unloaded: frozenset[str] = frozenset()
    reload: frozenset[str] = frozenset()
    kept: Mapping[str, int] = field(default_factory=dict)


DEFAULTS: Final = LoadOptions()
