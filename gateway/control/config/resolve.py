"""Resolves which releases are served, from the routing file, the release memory, the versions on disk and the stops.

The file states changes; what it does not name stays as it was. This module does no I/O.

    entry in the file                  as written; without a written salt, the same candidate keeps its salt
    entry gone, candidate running      refused: to end the release, name the model with `stable` alone
    entry gone, candidate stopped      stable, stop and salt stay; no route leads to the candidate
    entry gone, no candidate           stable stays
    never had an entry                 the highest version when it was first seen, never one that is stopped
    no entry at all                    refused if the text accepted before had one
"""

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.control.config.memory import ReleaseMemory, RememberedRelease, UndoPoint, remember
from gateway.errors import SettingsError
from gateway.settings.routing import ReleaseSettings, RoutingSettings, SplitSettings

FINGERPRINT_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class ResolveInput:
    """The inputs beside the file. `versions`: on disk, ascending; `loaded`: models that are served now."""

    memory: ReleaseMemory
    versions: Mapping[str, Sequence[int]]
    stopped: AbstractSet[tuple[str, int]] = frozenset()
    loaded: AbstractSet[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ResolvedRouting:
    """The releases to serve. `routing` holds every model; `configured`: those with an entry of their own.

    `notes`: by model, the differences from the memory that must be reported.
    """

    routing: RoutingSettings
    configured: frozenset[str]
    memory: ReleaseMemory
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def entries(self) -> RoutingSettings:
        """The entries of the file itself."""
        return RoutingSettings.model_construct(models={name: self.routing.models[name] for name in self.configured})


def resolve(routing: RoutingSettings, known: ResolveInput, source: str) -> ResolvedRouting:
    """Resolve the releases to serve. Raises SettingsError, which names the remedy, if an entry is missing that must not
    be dropped like this.
    """
    gone = {name: one for name, one in known.memory.items() if name not in routing.models}
    _refuse(routing, gone, known, source)
    releases: dict[str, ReleaseSettings] = {}
    memory: dict[str, RememberedRelease] = {}
    notes: dict[str, list[str]] = {}
    for name, entry in routing.models.items():
        before = known.memory.get(name)
        releases[name] = _keep_salt(entry, before)
        memory[name] = replace(remember(releases[name]), undo=_undo_point(entry, before))
        notes[name] = list(_differences(name, entry, releases[name], before, known))
    for name, one in gone.items():
        memory[name] = replace(one, configured=False)
        notes[name] = [_gone(name, one)] if one.configured else []
        if known.versions.get(name) or name in known.loaded:
            releases[name] = one.release()
    for name in sorted(known.versions.keys() - memory.keys()):
        first = first_seen(name, known)
        notes[name] = [_first(name, first)]
        if first is not None:
            memory[name], releases[name] = first, first.release()
    said = {name: lines for name, lines in notes.items() if lines}
    return ResolvedRouting(RoutingSettings.model_construct(models=releases), frozenset(routing.models), memory, said)


def first_seen(name: str, known: ResolveInput) -> RememberedRelease | None:
    """The release of a model without an entry that is seen for the first time; None if all its versions are stopped."""
    free = [version for version in known.versions.get(name, ()) if (name, version) not in known.stopped]
    return RememberedRelease(free[-1], configured=False) if free else None


def candidates_closed(memory: ReleaseMemory, known: ResolveInput) -> ResolvedRouting:
    """The remembered releases with every candidate closed: stable answers everyone. The memory is kept unchanged."""
    there = {name: one for name, one in memory.items() if one.configured or known.versions.get(name)}
    releases = {name: ReleaseSettings(stable=one.stable) for name, one in there.items()}
    configured = frozenset(name for name, one in memory.items() if one.configured)
    return ResolvedRouting(RoutingSettings.model_construct(models=releases), configured, memory)


def _refuse(routing: RoutingSettings, gone: ReleaseMemory, known: ResolveInput, source: str) -> None:
    problems = [
        f"models.{name}: its entry is gone, and its candidate {one.candidate} is not stopped;"
        f" to end it, name the model with stable alone: {name}: {{stable: {one.stable}}}"
        for name, one in sorted(gone.items())
        if one.configured and one.candidate is not None and (name, one.candidate) not in known.stopped
    ]
    configured = {name: one for name, one in sorted(gone.items()) if one.configured}
    if not problems and configured and not routing.models:
        meant = ", ".join(f"{name}: {{stable: {one.stable}}}" for name, one in configured.items())
        problems = [f"models: every entry is gone; to end all releases, name the models with stable alone: {meant}"]
    if problems:
        raise SettingsError(source, problems)


def _keep_salt(entry: ReleaseSettings, before: RememberedRelease | None) -> ReleaseSettings:
    """The entry, with the previous salt if the same candidate's salt is not written (null counts as written)."""
    split = entry.split or SplitSettings()
    if before is None or before.salt is None or entry.candidate is None or before.candidate != entry.candidate:
        return entry
    if "salt" in split.model_fields_set:
        return entry
    return entry.model_copy(update={"split": split.model_copy(update={"salt": before.salt})})


def _undo_point(entry: ReleaseSettings, before: RememberedRelease | None) -> UndoPoint | None:
    """The promotion that this entry makes, or the one before, which lasts until one names other versions."""
    if before is None or entry.candidate is not None:
        return None
    now = entry_fingerprint(entry)
    if entry.stable == before.candidate:
        return UndoPoint(before.stable, now)
    if entry.stable != before.stable or before.undo is None:
        return None
    return replace(before.undo, edited=now != before.undo.entry)


def entry_fingerprint(entry: ReleaseSettings) -> str:
    """A hash of what the entry says, without its layout and what it leaves to defaults."""
    return hashlib.sha256(entry.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:FINGERPRINT_LENGTH]


def _differences(
    name: str, entry: ReleaseSettings, release: ReleaseSettings, before: RememberedRelease | None, known: ResolveInput
) -> list[str]:
    if before is None:
        return []
    lines = []
    if before.stable != entry.stable:
        stopped = ", which is stopped as a candidate" if (name, entry.stable) in known.stopped else ""
        lines.append(f"models.{name}: stable {before.stable} -> {entry.stable}{stopped}, by the file")
    if before.candidate != entry.candidate:
        lines.append(
            f"models.{name}: candidate {before.candidate or 'none'} -> {entry.candidate or 'none'}, by the file"
        )
    if release is not entry:
        lines.append(
            f"models.{name}.split.salt: is not written any more and stays {before.salt!r}; write it, or"
            f" salt: {name}-{entry.candidate} to let other customers get the candidate"
        )
    return lines


def _gone(name: str, one: RememberedRelease) -> str:
    stop = f", and candidate {one.candidate} stays stopped" if one.candidate is not None else ""
    return f"models.{name}: its entry is gone; stable stays {one.stable}{stop}"


def _first(name: str, first: RememberedRelease | None) -> str:
    if first is None:
        return f"models.{name}: has no entry, and each of its versions is stopped: not served; name its stable version"
    return (
        f"models.{name}: has no entry: served in version {first.stable}, its highest now, until an entry says otherwise"
    )
