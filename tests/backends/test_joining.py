"""Requests joined into one run: each gets its own rows back, and an output without the batch's rows is refused."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.joining import concatenated, split_rows
from gateway.errors import InvalidOutput


class Request(NamedTuple):
    feeds: dict[str, np.ndarray]
    rows: int


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_each_request_gets_the_rows_that_it_brought(rows: list[int]) -> None:
    requests = [
        Request({"x": np.full((count, 2), number), "name": np.full(count, f"r{number}", object)}, count)
        for number, count in enumerate(rows)
    ]
    with concatenated([request.feeds for request in requests]) as feeds:
        answers = split_rows([feeds["name"], feeds["x"]], requests)
    for number, (count, (names, numbers)) in enumerate(zip(rows, answers, strict=True)):
        assert names.tolist() == [f"r{number}"] * count
        assert numbers.tolist() == [[number, number]] * count


@pytest.mark.parametrize("other", [np.zeros((2, 1)), np.zeros((4, 1)), np.zeros((0, 1)), None])
def test_an_output_without_the_batchs_rows_is_refused(other: np.ndarray | None) -> None:
    with pytest.raises(InvalidOutput, match="rows"):
        split_rows([np.zeros((3, 1)), other], [Request({}, 1), Request({}, 2)])
