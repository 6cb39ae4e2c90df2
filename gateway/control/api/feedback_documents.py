"""The shapes of the JSON documents of what feedback says of a version."""

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12


class MeasureDocument(TypedDict):
    """A measure of quality, from the latest feedback on each prediction. `metric`: accuracy, loss, mae, rmse, bias,
    ndcg, mrr, reward, complaints, or metrics.NAME; of an output other than the first, after its name and a dot.

    `count` predictions have the `outcome` that it is computed from, and `sum` is that outcome's. `form`: share (0 to
    1), number or count. `higher_is_better`: null if that is not known.
    """

    metric: str
    label: str
    value: float
    count: int
    outcome: str
    sum: float
    form: str
    higher_is_better: bool | None


class RouteMeasuresDocument(TypedDict):
    """The measures of one route's requests."""

    route: str
    measures: list[MeasureDocument]


class ClassDocument(TypedDict):
    """Rows of which this is the true class, by name or index, and the share of them that were predicted right: recall.

    `other` stands for all classes that are not counted one by one.
    """

    name: str
    rows: int
    recall: float
