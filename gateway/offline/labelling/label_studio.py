"""Writes rows as tasks of Label Studio, with the predictions, and the labelling configuration that goes with them.

Sources: labelstud.io/guide/tasks, /guide/predictions and /tags (Label Studio 1.x).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from gateway.errors import GatewayError
from gateway.offline.examples import Predicting
from gateway.offline.labelling.row import RowToLabel
from gateway.records.time_range import format_time
from gateway.settings.model import Kind

INPUT: Final = "input"  # the name of the tag that shows what is labelled
TRUTH: Final = "truth"  # of the control with which it is labelled: a field of feedback
COMMENT: Final = "comment"  # the same
MANY_CLASSES: Final = 20  # from here on they are a list to open
_SHOWN_TAGS: Final = (
    ("image", '<Image name={} value="$image"/>'),
    ("text", '<Text name={} value="$text"/>'),
    ("features", '<Table name={} value="$features"/>'),
)
_QUESTIONS: Final = {
    Kind.CLASSIFICATION: "which class is right?",
    Kind.MULTILABEL: "which labels are right? None of them: submit without a choice.",
    Kind.REGRESSION: "which number is right?",
}


@dataclass(frozen=True, slots=True)
class Project:
    """What Label Studio needs: `tasks`, to be imported, and `config`, the labelling configuration (XML)."""

    tasks: Sequence[Mapping[str, Any]]
    config: str


def project_of(model: str, rows: Sequence[RowToLabel], predicting: Predicting) -> Project:
    """Make tasks of these rows. Raises GatewayError if what the model predicts cannot be labelled so."""
    kind = kind_of(rows, predicting)
    if kind not in _QUESTIONS:
        raise GatewayError(
            f"what {model} predicts is {kind or 'not known'}, and Label Studio tasks are made for classification,"
            " multilabel and regression: say prediction.kind in model.yaml, or write --to-label to a .csv file"
        )
    shown = [name for name, _ in _SHOWN_TAGS if any(_is_shown(row, name) for row in rows)]
    classes = class_names(rows, predicting)
    tasks = [_task(row, kind, shown, predicting) for row in rows]
    return Project(tasks, _config(model, kind, shown, classes))


def kind_of(rows: Sequence[RowToLabel], predicting: Predicting) -> Kind | None:
    """What the rows' predictions are: as model.yaml says, else as the first row shows."""
    return predicting.kind or next((row.kind for row in rows if row.kind is not None), None)


def class_names(rows: Sequence[RowToLabel], predicting: Predicting) -> Sequence[str]:
    """The names of all classes or labels; their indices if model.yaml names none."""
    if predicting.labels:
        return predicting.labels
    indices = [one for row in rows for one in (row.predicted if isinstance(row.predicted, list) else [row.predicted])]
    count = max([row.classes for row in rows] + [one + 1 for one in indices if type(one) is int], default=0)
    return [str(index) for index in range(count)]


def facts_of(row: RowToLabel, predicting: Predicting) -> dict[str, Any]:
    """What is said of a row beside its inputs; it comes back with the labels."""
    return {
        "prediction_id": row.prediction_id,
        "row": row.row,
        "why": str(row.why),
        "predicted": predicting.name_of(row.predicted),
        "candidate_predicted": None if row.other is None else predicting.name_of(row.other),
        "margin": None if row.margin is None else round(row.margin, 6),
        "model": row.model,
        "version": row.version,
        "time": format_time(row.time_ns),
    }


def _is_shown(row: RowToLabel, name: str) -> bool:
    return getattr(row.shown, name) not in (None, {})


def _task(row: RowToLabel, kind: Kind, shown: Sequence[str], predicting: Predicting) -> dict[str, Any]:
    empty: dict[str, Any] = {"image": "", "text": "", "features": {}}
    seen = {name: getattr(row.shown, name) or empty[name] for name in shown}
    predictions = [_prediction(row.predicted, f"{row.model} {row.version}", row.score, kind, predicting)]
    if row.other is not None:
        predictions.append(
            _prediction(row.other, f"{row.model} {row.other_version} (candidate)", None, kind, predicting)
        )
    return {
        "data": {**seen, **facts_of(row, predicting), "kind": str(kind)},
        "predictions": [one for one in predictions if one is not None],
    }


def _prediction(
    predicted: Any, model_version: str, score: float | None, kind: Kind, predicting: Predicting
) -> dict[str, Any] | None:
    """What a version predicted, as Label Studio shows it; None if it cannot be shown."""
    value: dict[str, Any]
    if kind is Kind.REGRESSION and type(predicted) in (int, float):
        value = {"number": predicted}
    elif kind is Kind.CLASSIFICATION and type(predicted) is int:
        value = {"choices": [predicting.name_of(predicted)]}
    elif kind is Kind.MULTILABEL and isinstance(predicted, list | tuple) and predicted:
        value = {"choices": [predicting.name_of(one) for one in predicted]}
    else:
        return None
    said = {"from_name": TRUTH, "to_name": INPUT, "type": next(iter(value)), "value": value}
    known = {} if score is None else {"score": round(score, 6)}
    return {"model_version": model_version, **known, "result": [said]}


def _config(model: str, kind: Kind, shown: Sequence[str], classes: Sequence[str]) -> str:
    return "\n".join(["<View>", *(f"  {line}" for line in _tags(model, kind, shown, classes)), "</View>", ""])


def _tags(model: str, kind: Kind, shown: Sequence[str], classes: Sequence[str]) -> Iterator[str]:
    yield f"<Header value={quoteattr(f'{model}: {_QUESTIONS[kind]}')}/>"
    names = [INPUT, *shown[1:]]  # the first one is what is labelled
    for name, kind_shown in zip(names, shown, strict=True):
        yield dict(_SHOWN_TAGS)[kind_shown].format(quoteattr(name))
    to = f'name="{TRUTH}" toName="{INPUT}"'
    if kind is Kind.REGRESSION:
        yield f'<Number {to} required="true"/>'
    else:
        several = kind is Kind.MULTILABEL
        layout = ' layout="select"' if len(classes) > MANY_CLASSES else ' showInline="true"'
        required = "false" if several else "true"
        yield f'<Choices {to} choice="{"multiple" if several else "single-radio"}"{layout} required="{required}">'
        yield from (f"  <Choice value={quoteattr(name)}/>" for name in classes)
        yield "</Choices>"
    yield f'<TextArea name="{COMMENT}" toName="{INPUT}" maxSubmissions="1" placeholder="a comment, if there is one"/>'
