"""The columns of judged rows: sampled where there are too many, and split into slices."""

from typing import Any

import numpy as np

from gateway.offline.analysis.dimensions import MAX_CATEGORIES, dimensions_of
from gateway.offline.analysis.features import MAX_FEATURES, FeatureNames, features_of
from gateway.offline.analysis.table import ABSENT, ExampleTable, Row
from gateway.protocol.tensors import Tensor


def row(unit: int, **fields: Any) -> Row:
    defaults: dict[str, Any] = {"key": unit, "version": 1, "candidate": False, "chance": 0.5, "parts": {}}
    return Row(unit=unit, **{**defaults, "features": {}, "outcomes": {}, **fields})


def tensor(name: str, data: Any, datatype: str = "FP32") -> Tensor:
    return Tensor(name, datatype, np.array(data, object if datatype == "BYTES" else None))


def test_table_keeps_an_even_sample_of_whole_predictions() -> None:
    table = ExampleTable(max_values=6000)
    for unit in range(2000):
        for _ in range(3):
            table.add(row(unit, outcomes={"loss": float(unit)}, parts={"customer": f"c{unit % 7}"}))
    columns = table.columns()
    assert table.every > 1
    assert len(columns) * 7 < 6000
    assert set(columns.unit.tolist()) == set(range(0, 2000, table.every))
    assert np.array_equal(columns.outcomes["loss"], columns.unit)
    codes, names = columns.parts["customer"]
    assert [names[code] for code in codes] == [f"c{unit % 7}" for unit in columns.unit]


def test_values_that_a_row_has_not_are_absent() -> None:
    table = ExampleTable()
    table.add(row(0, outcomes={"loss": 1.0}))
    table.add(row(1, outcomes={"reward": 2.0}, features={"plan": "free", "age": 3.0}))
    table.add(row(2, outcomes={"loss": 3.0}))
    columns = table.columns()
    assert np.array_equal(columns.outcomes["loss"], [1.0, np.nan, 3.0], equal_nan=True)
    assert np.array_equal(columns.outcomes["reward"], [np.nan, 2.0, np.nan], equal_nan=True)
    assert np.array_equal(columns.numbers["age"], [np.nan, 3.0, np.nan], equal_nan=True)
    assert columns.categories["plan"][0].tolist() == [ABSENT, 0, ABSENT]


def test_few_numbers_are_slices_of_their_own_and_many_are_quarters() -> None:
    table = ExampleTable()
    for unit in range(101):
        table.add(row(unit, features={"floor": float(unit % 3), "age": float(unit)}))
    floor, age = dimensions_of(table.columns())
    assert list(floor.values) == ["0", "1", "2", "missing"]
    assert floor.codes[:4].tolist() == [0, 1, 2, 0]
    assert list(age.values) == ["up to 25", "25 to 50", "50 to 75", "over 75", "missing"]
    assert np.bincount(age.codes).tolist() == [26, 25, 25, 25], "25 is up to 25"


def test_rare_categories_are_one_slice() -> None:
    table = ExampleTable()
    for unit in range(300):
        table.add(row(unit, features={"city": f"c{unit}" if unit >= 200 else f"c{unit % 40}"}))
    (city,) = dimensions_of(table.columns())
    assert city.values[-1] == "(others)"
    assert len(city.values) == MAX_CATEGORIES + 1
    assert np.bincount(city.codes)[-1] == 90


def test_features_have_the_names_that_are_given() -> None:
    inputs = [tensor("x", [[1.0, 2.0]]), tensor("plan", [[b"free"]], "BYTES"), tensor("on", [True], "BOOL")]
    by_input = FeatureNames(by_input={"x": ("age", "height")})
    assert features_of(inputs, 1, by_input) == [{"age": 1.0, "height": 2.0, "plan": "free", "on": "true"}]
    assert features_of(inputs[:1], 1, FeatureNames(("age", "height"))) == [{"age": 1.0, "height": 2.0}]
    assert features_of(inputs[:1], 1, FeatureNames()) == [{"x[0]": 1.0, "x[1]": 2.0}]


def test_inputs_without_a_value_for_each_row_are_no_features() -> None:
    context = tensor("context", [[1.0], [2.0], [3.0]])
    found = features_of([tensor("x", [[1.0], [2.0]]), context], 2, FeatureNames())
    assert found == [{"x": 1.0}, {"x": 2.0}]
    assert features_of([tensor("x", np.zeros((1, MAX_FEATURES + 1)))], 1, FeatureNames()) == []
    assert features_of([tensor("text", [["word " * 20]], "BYTES")], 1, FeatureNames()) == [{}]
