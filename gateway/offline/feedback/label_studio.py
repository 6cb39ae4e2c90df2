"""Reads labels that Label Studio has exported, in its formats JSON and JSON-MIN.

Sources: labelstud.io/guide/task_format and /guide/export (Label Studio 1.x).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.offline.feedback.fields import FIELDS, METRIC, PREDICTION_ID, Columns, Entry, entry_of
from gateway.settings.model import Kind
from gateway.system.printable import printable

NO_ANNOTATION: Final = "not labelled yet"
CANCELLED: Final = "skipped by the annotator"
NOT_GOLDEN: Final = "passed over, because another annotation of the task is its ground truth"
_TRUTH: Final = "truth"
_OF_TASK: Final = (PREDICTION_ID, "row")  # which data of the task says, not an annotation
_ANNOTATION: Final = "annotation_id"  # in a row of JSON-MIN, if the task has an annotation
_METRICS: Final = "metrics"
MAX_NAME: Final = 60  # characters of a control's name in a message
_MAP: Final = "give --map truth=NAME, with the name of the control in the labelling configuration"


def entries_of(document: Any, columns: Columns, left_out: Counter[str]) -> Iterator[Entry]:
    """Yield an entry for each annotation; `line` is the number of the task. Earlier annotations come first, so that the
    latest one applies. `left_out` counts what holds no label, by reason.
    """
    tasks = document if type(document) is list else [document]
    numbered = list(enumerate(tasks, 1))
    if not any(type(task) is dict and "annotations" in task for task in tasks):
        numbered.sort(key=lambda one: _time_of(one[1]))  # JSON-MIN lists the latest annotation first
    for number, task in numbered:
        if type(task) is not dict:
            yield Entry(number, {}, "must be a task, which is a JSON object")
        elif "annotations" in task:
            yield from _of_task(number, task, columns, left_out)
        else:
            yield from _of_row(number, task, columns, left_out)


def _of_task(number: int, task: Mapping[str, Any], columns: Columns, left_out: Counter[str]) -> Iterator[Entry]:
    annotations, data = task["annotations"], task.get("data")
    if type(annotations) is not list or type(data) is not dict:
        yield Entry(number, {}, "must have a list of annotations, and an object `data`")
        return
    found = [one for one in annotations if type(one) is dict and not one.get("was_cancelled")]
    golden = [one for one in found if one.get("ground_truth") is True and _is_answered(one, data)]
    left_out[CANCELLED] += len(annotations) - len(found)
    left_out[NOT_GOLDEN] += len(found) - len(golden) if golden else 0
    left_out[NO_ANNOTATION] += not annotations
    for annotation in sorted(golden or found, key=_time_of):
        results = annotation.get("result")
        said, error = _said(results if type(results) is list else [], data.get("kind"))
        if not said and not error:
            left_out[NO_ANNOTATION] += 1
        else:
            yield _entry(number, data, said, error, columns)


def _is_answered(annotation: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether it says anything; of label sets, nothing is an answer, too: none of the labels."""
    return bool(annotation.get("result")) or data.get("kind") == Kind.MULTILABEL


def _of_row(number: int, task: Mapping[str, Any], columns: Columns, left_out: Counter[str]) -> Iterator[Entry]:
    """A row of JSON-MIN: the data of a task, and the labels of an annotation by the names of the controls."""
    kind, controls = task.get("kind"), {columns.mapped.get(name, name) for name in FIELDS if name not in _OF_TASK}
    said = {
        name: value if name == _METRICS else _plain(value, kind)
        for name, value in task.items()
        if value is not None and (name in controls or name.startswith(METRIC))
    }
    if not said and kind == Kind.MULTILABEL and task.get(_ANNOTATION) is not None:
        said = {columns.mapped.get(_TRUTH, _TRUTH): []}
    if said:
        yield _entry(number, task, said, "", columns)
    elif task.get(_ANNOTATION) is None:
        left_out[NO_ANNOTATION] += 1
    else:
        yield Entry(number, {}, f"holds none of {', '.join(sorted(controls))}: {_MAP}")


def _entry(number: int, data: Mapping[str, Any], said: Mapping[str, Any], error: str, columns: Columns) -> Entry:
    """The entry of one annotation: which row by the task's data, what of it by the annotation."""
    columns_of_task = {columns.mapped.get(name, name): name for name in _OF_TASK}
    base = {name: data[column] for column, name in columns_of_task.items() if column in data}
    if error:
        return Entry(number, base, error)
    found = [None if name in _OF_TASK else name for name in columns.fields_of(list(said))]
    if not any(found):
        named = ", ".join(f"'{_short(name)}'" for name in said)
        return Entry(number, base, f"its labels are called {named}, which is no field of feedback: {_MAP}")
    return entry_of(number, [*base, *found], [*base.values(), *said.values()])


def _said(results: Sequence[Any], kind: Any) -> tuple[dict[str, Any], str]:
    """What an annotation says, by the names of the controls; and what is wrong with it, "" if nothing is."""
    said: dict[str, Any] = {}
    for result in results:
        if type(result) is not dict or type(result.get("from_name")) is not str:
            continue  # relations between regions
        name, control, value = result["from_name"], result.get("type"), result.get("value")
        if name in said:
            return {}, f"says several things under '{_short(name)}': tasks have one answer for the whole input"
        if type(value) is not dict or type(control) is not str or control not in _READERS or control not in value:
            shown = f"'{_short(name)}' is of type {_short(str(control))}"
            return {}, f"{shown}, which says no truth; known are {', '.join(_READERS)}"
        said[name] = _READERS[control](value[control], kind)
    if kind == Kind.MULTILABEL and _TRUTH not in said:
        said[_TRUTH] = []  # submitted without a choice: none of the labels
    return said, ""


def _short(name: str) -> str:
    return printable(name[:MAX_NAME])


def _plain(value: Any, kind: Any) -> Any:
    """A label of JSON-MIN: {"choices": [...]} if there are several, lists of paths of a taxonomy."""
    if type(value) is dict and len(value) == 1 and next(iter(value)) in _READERS:
        control = next(iter(value))
        return _READERS[control](value[control], kind)
    if type(value) is list and value and all(type(one) is list for one in value):
        return _taxonomy(value, kind)
    return [value] if kind == Kind.MULTILABEL and type(value) is str else value


def _choices(value: Any, kind: Any) -> Any:
    single = type(value) is list and len(value) == 1 and kind != Kind.MULTILABEL
    return value[0] if single else value


def _taxonomy(value: Any, kind: Any) -> Any:
    """The last part of each path."""
    paths = value if type(value) is list else [value]
    return _choices([path[-1] if type(path) is list and path else path for path in paths], kind)


def _number(value: Any, kind: Any) -> Any:
    return value


def _text(value: Any, kind: Any) -> Any:
    lines = value if type(value) is list else [value]
    return "\n".join(map(str, lines)) or None


_READERS: Final = {
    "choices": _choices,
    "taxonomy": _taxonomy,
    "number": _number,
    "rating": _number,
    "textarea": _text,
}


def _time_of(one: Any) -> str:
    """When an annotation was made, as ISO text; empty if it does not say."""
    found = one.get("created_at") if type(one) is dict else None
    return found if type(found) is str else ""
