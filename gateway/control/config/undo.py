"""Undoes a model's last promotion: whether that is possible, and the edit of the routing file."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from gateway.backends.repository import Repository
from gateway.control.config.file_history import RoutingHistory
from gateway.control.config.memory import ReleaseMemory, UndoPoint
from gateway.control.config.yaml_edit import restore_entry, set_stable
from gateway.control.release.decisions import ReleaseDecision
from gateway.errors import Conflict, SettingsError
from gateway.settings.routing_file import routing_text


def undo_point(memory: ReleaseMemory, model: str, repository: Repository) -> tuple[int, UndoPoint]:
    """The version that was promoted last, and what its promotion replaced; reads the disk. Raises Conflict with the
    reason why it cannot be undone.
    """
    one = memory[model]
    if one.candidate is not None:
        raise Conflict(
            f"'{model}' has a candidate again, version {one.candidate}: what was promoted before cannot be undone;"
            " to go back, name the versions in the routing file"
        )
    if one.undo is None:
        raise Conflict(
            f"'{model}' has no promotion to undo: none is known, or its entry has named another stable version or a"
            f" candidate since; stable is version {one.stable}"
        )
    if one.undo.edited:
        raise Conflict(
            f"the entry of '{model}' has been edited by hand since the promotion; to go back, edit it again:"
            f" stable: {one.undo.stable}"
        )
    if reason := repository.unserved_reason(model, one.undo.stable):
        raise Conflict(f"version {one.undo.stable} of '{model}' cannot be served any more: {reason}")
    return one.stable, one.undo


def undo_edit(
    model: str, point: UndoPoint, before: str | None, *, keep_routes: bool, source: str
) -> Callable[[str], str]:
    """Maps the routing file's text to the one in which the promotion is undone. `keep_routes`: the candidate and its
    routes come back as in `before`, the text before the promotion; otherwise stable answers every request.
    """
    if not keep_routes:
        return partial(set_stable, model=model, version=point.stable, source=source)
    if before is None:
        raise Conflict(
            f"the routing file as it was before the promotion of '{model}' is not kept any more, so its routes cannot"
            " be brought back; undo it without them (--drop-routes)"
        )
    return partial(restore_entry, before=before, model=model, source=source)


def text_before(history: RoutingHistory, decisions: Iterable[ReleaseDecision], model: str) -> str | None:
    """The text before the last edit of the model's entry, from the history; reads the disk. None if it is not kept.
    `decisions`: oldest first.
    """
    kept = [str(one.evidence["kept"]) for one in decisions if one.model == model and "kept" in one.evidence]
    if not kept or Path(kept[-1]).name != kept[-1]:
        return None
    try:
        return routing_text((history.folder / kept[-1]).read_bytes(), kept[-1])[1]
    except (OSError, SettingsError):
        return None
