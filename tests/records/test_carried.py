"""What a prediction id carries of several rows and outputs: all that fits, and how many rows there were otherwise."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.records.carried import MAX_BYTES, Carried, decoded, encoded, one_number
from gateway.records.token import CARRIED, MAX_TOKEN_LENGTH, SEVERAL_ROWS, Signer, encoded_names
from gateway.routing.release import Decision, Variant
from gateway.settings.model import MAX_PREDICTIONS, Kind

SIGNER = Signer({7: bytes(range(32))}, 7)
DECISION = Decision(2, Variant.CANDIDATE, "everyone", 123_456, 50_000, 0.05, True)
FLOATS = st.none() | st.floats(-(2.0**100), 2.0**100, width=32)
ROWS = {
    Kind.CLASSIFICATION: st.lists(st.none() | st.integers(0, 5000), min_size=1, max_size=200),
    Kind.MULTILABEL: st.lists(
        st.none() | st.sets(st.integers(0, 20)).map(lambda one: tuple(sorted(one))), min_size=1, max_size=60
    ),
    Kind.REGRESSION: st.lists(FLOATS, min_size=1, max_size=100),
}


@given(st.data(), st.sampled_from(list(ROWS)))
def test_rows_of_one_output_are_returned(data: st.DataObject, kind: Kind) -> None:
    rows = data.draw(ROWS[kind])
    (read,) = decoded(encoded([Carried(kind, len(rows), rows)]))
    assert (read.kind, read.rows, list(read.values or ())) == (kind, len(rows), rows)


def test_several_outputs_are_returned_in_order() -> None:
    given = [
        Carried(Kind.CLASSIFICATION, 2, [1, None]),
        Carried(Kind.REGRESSION, 2, [0.5, -2.0]),
        Carried(Kind.MULTILABEL, 2, [(), (0, 3)]),
        Carried(Kind.RANKING, 2, [12]),
        Carried(Kind.EMBEDDING, 2),
        Carried(Kind.NONE, 2),
    ]
    read = decoded(encoded(given))
    assert [(one.kind, one.rows, list(one.values or ())) for one in read] == [
        (one.kind, one.rows, list(one.values or ())) for one in given
    ]


@pytest.mark.parametrize(
    ("kind", "value", "most"),
    [(Kind.CLASSIFICATION, 7, 507), (Kind.CLASSIFICATION, 300, 253), (Kind.REGRESSION, 1.5, 126)],
)
def test_rows_beyond_the_room_are_only_counted(kind: Kind, value: float, most: int) -> None:
    (fits,), (beyond,) = (decoded(encoded([Carried(kind, rows, [value] * rows)])) for rows in (most, most + 1))
    assert (fits.rows, len(fits.values or ())) == (most, most)
    assert (beyond.rows, beyond.values) == (most + 1, None)


def test_outputs_share_the_room_and_the_first_takes_it() -> None:
    first, second = decoded(
        encoded([Carried(Kind.CLASSIFICATION, 400, [1] * 400), Carried(Kind.REGRESSION, 400, [1.0] * 400)])
    )
    assert (len(first.values or ()), second.values, second.rows) == (400, None, 400)


def test_answer_that_could_not_be_read_differs_from_one_that_did_not_fit() -> None:
    assert [
        one.values for one in decoded(encoded([Carried(Kind.REGRESSION, 3), Carried(Kind.REGRESSION, 3, None)]))
    ] == [
        (),
        None,
    ]


def test_class_beyond_two_bytes_is_not_carried() -> None:
    (read,) = decoded(encoded([Carried(Kind.CLASSIFICATION, 2, [65535, 0])]))
    assert read.values is None


@pytest.mark.parametrize("value", [1.5, -0.0, None, 1e39, -1e300, math.pi])
def test_one_number_is_the_same_as_one_row_of_a_regression(value: float | None) -> None:
    assert one_number(value) == encoded([Carried(Kind.REGRESSION, 1, [value])])
    (read,) = decoded(one_number(value))
    wanted = None if value is None or abs(value) > 3.4e38 else struct.unpack("<f", struct.pack("<f", value))[0]
    assert (read.rows, read.values) == (1, [wanted])


@given(st.binary(max_size=40))
def test_bytes_of_no_known_form_are_a_value_error(payload: bytes) -> None:
    try:
        read = decoded(payload)
    except ValueError:
        return
    assert all(isinstance(one.kind, Kind) for one in read)


def token(payload: bytes, predicted: int = SEVERAL_ROWS, name: str = "digits") -> str:
    return SIGNER.token(encoded_names(name, "everyone") + payload, DECISION, 42, predicted, False).decode()


def test_token_carries_the_rows_and_still_its_names() -> None:
    rows = [0, 10, 13, None, 4]  # as bytes a NUL, and both line breaks
    read = SIGNER.read(token(CARRIED + encoded([Carried(Kind.CLASSIFICATION, 5, rows)])))
    assert (read.model, read.route, read.rows, read.row_count) == ("digits", "everyone", True, 5)
    assert list(read.carried[0].values or ()) == rows


def test_longest_token_is_read() -> None:
    most = [Carried(Kind.CLASSIFICATION, 430, [1] * 430), *[Carried(Kind.NONE, 430)] * (MAX_PREDICTIONS - 1)]
    payload = encoded(most)
    assert MAX_BYTES - 10 <= len(payload) <= MAX_BYTES
    text = token(CARRIED + payload, name="x" * 300)
    assert len(text) < MAX_TOKEN_LENGTH
    assert SIGNER.read(text).row_count == 430


def test_token_of_the_release_before_is_read() -> None:
    """Made by its code: one class, no class, and several rows, of which it says no more."""
    made = (
        "BxdVa1ne-OsYKgAAAAAAAAADAAAAUMNQAEDiAQACAAAAZGlnaXRzAGV2ZXJ5b25l6CkbwJzrSRg",
        "B1Gya1ne-OsYKgAAAAAAAAD_____UMNQAEDiAQACAAAAZGlnaXRzAGV2ZXJ5b25lKKGYWBSpEYc",
        "B0XEa1ne-OsYKgAAAAAAAAD-____UMNQAEDiAQACAAAAZGlnaXRzAGV2ZXJ5b25lgF0R8efN8L8",
    )
    read = [SIGNER.read(text) for text in made]
    assert [(one.predicted, one.row_count) for one in read] == [(3, 1), (None, 1), (None, None)]
    assert [(one.model, one.route, one.carried) for one in read] == [("digits", "everyone", ())] * 3


def test_token_of_a_later_form_is_refused_with_a_reason() -> None:
    with pytest.raises(InvalidRequest, match="created by a later release"):
        SIGNER.read(token(CARRIED + b"\x07"))
