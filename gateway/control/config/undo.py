"""Undoes a model's last promotion: whether that is possible, and the edit of the routing file."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gateway.backends.repository import Repository
from gateway.control.config.file_history import RoutingHistory
from gateway.control.config.memory import ReleaseMemory, UndoPoint
from gateway.control.config.yaml_edit import RoutingChange, restore_entry
from gateway.control.release.decisions import ReleaseDecision
from gateway.errors import Conflict, SettingsError
from gateway.settings.document import parse_yaml
from gateway.settings.routing_file import routing_text

MOST_TEXTS: Final = 20  # in which the one before a promotion is looked for


def undo_point(memory: ReleaseMemory, model: str, repository: Repository) -> tuple[int, UndoPoint]:
    """The version that was promoted last, and what its promotion replaced; reads the disk. Raises Conflict with the
    reason why it cannot be undone.
    """
    one = memory[model]
    if one.candidate is not None:
        raise Conflict(
            f"'{model}' has a candidate, version {one.candidate}: a promotion can be undone only until there is another"
            " candidate; to go back to an earlier stable version, name it in the routing file"
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


def undo_edit(change: RoutingChange, before: str | None, *, keep_routes: bool, source: str) -> Callable[[str], str]:
    """Maps the routing file's text to the one in which the promotion is undone, as `change` says. `keep_routes`: the
    candidate and its routes come back as in `before`, the text before the promotion; otherwise stable answers every
    request.
    """
    if not keep_routes:
        return partial(change.made, source=source)
    if before is None:
        raise Conflict(
            f"the routing file as it was before the promotion of '{change.model}' is not kept any more, so its routes"
            " cannot be brought back; undo it without them (--drop-routes)"
        )
    return partial(restore_entry, before=before, model=change.model, source=source)


def text_before(
    history: RoutingHistory, decisions: Sequence[ReleaseDecision], model: str, stable: int, candidate: int
) -> str | None:
    """The last text in the history in which `candidate` was the candidate beside `stable`: the one before the
    promotion, though the file may have been edited since. Reads the disk. None if it is not among the last MOST_TEXTS
    that were kept for the model. `decisions`: oldest first.
    """
    names = [str(one.evidence["kept"]) for one in decisions if one.model in (model, "") and "kept" in one.evidence]
    for name in reversed(names[-MOST_TEXTS:]):
        if Path(name).name != name:
            continue
        try:
            text = routing_text((history.folder / name).read_bytes(), name)[1]
            entry = parse_yaml(text, name)["models"][model]
            if (entry["stable"], entry.get("candidate", entry.get("canary"))) == (stable, candidate):
                return text
        except (OSError, SettingsError, LookupError, TypeError, AttributeError):
            continue  # not kept any more, or the model had no entry in it
    return None
