"""YAML scalars: text for comparison is taken literally, and a number is one that all YAML readers agree on."""

from typing import Any

import pytest

from gateway.errors import SettingsError
from gateway.routing.matchers import compile_matcher
from gateway.settings.base import Settings
from gateway.settings.gateway import GatewaySettings
from gateway.settings.keys import KeysSettings
from gateway.settings.load import parse
from gateway.settings.matching import MatchSettings, text_of
from gateway.settings.model import ModelSettings
from gateway.settings.routing import RoutingSettings

HUGE = "1" * 5000
NUMBERS = ["0", "5", "2024", "10.5", "0.1", "1e1", ".5", "1.", "1.10", "1.0e+1", "+5"]
ODD = [
    *("0123", "007", "010", "08", "12:30", "190:20:30", "1:30", "1:30.5", "1_000", "1__0", "0x1F", "0o17", "0b11"),
    *(".inf", "-.INF", ".nan", "00", "01.5", "1_0.5", "1e999", HUGE, "-0123"),
]
WORDS = [
    "acme",
    "=",
    "y",
    "n",
    "1.2.3",
    "eu-1",
    "\u0661\u0662",
    "1x",
    "0x",
    "e1",
    "+",
    "1:99",
    "...a",
    "a b",
    "1e",
    "12:3o",
]
AS_WRITTEN = [*NUMBERS, *ODD, *WORDS, "-0", "-1", "+41791234567", "1e3", "9" * 400]
REFUSED = [
    *("null", "~", "", "true", "True", "FALSE", "yes", "No", "on", "OFF"),
    *("2024-01-01", "2024-01-01T00:00:00Z", "2024-1-1 0:00:00", "2001-12-14t21:59:43.10-05:00"),
]


def matched(item: str) -> MatchSettings:
    text = f"models: {{m: {{stable: 1, candidate: 2, split: {{routes: [{{name: r, weight: 5, match: [{item}]}}]}}}}}}"
    split = parse(text, RoutingSettings, "routing.yaml").models["m"].split
    assert split is not None
    return split.routes[0].match[0]


PLACES: dict[str, tuple[str, Any]] = {  # an item of `match`, and where the text is then
    "bare": ("{{customer: {0}}}", lambda item: item.customer.exact),
    "exact": ("{{customer: {{exact: {0}}}}}", lambda item: item.customer.exact),
    "in": ("{{customer: {{in: [{0}]}}}}", lambda item: next(iter(item.customer.in_))),
    "prefix": ("{{customer: {{prefix: {0}}}}}", lambda item: item.customer.prefix),
    "suffix": ("{{customer: {{suffix: {0}}}}}", lambda item: item.customer.suffix),
    "not": ("{{customer: {{not: {0}}}}}", lambda item: item.customer.not_.exact),
    "not in": ("{{customer: {{not: {{in: [{0}]}}}}}}", lambda item: next(iter(item.customer.not_.in_))),
    "modality": ("{{modality: {0}}}", lambda item: item.modality.exact),
    "header": ("{{headers: {{x-a: {0}}}}}", lambda item: item.headers["x-a"].exact),
    "parameter": ("{{parameters: {{tier: {0}}}}}", lambda item: item.parameters["tier"].exact),
}


@pytest.mark.parametrize("place", PLACES)
def test_match_values_are_taken_literally(place: str) -> None:
    item, found = PLACES[place]
    for text in AS_WRITTEN:
        assert found(matched(item.format(text))) == text
        assert type(found(matched(item.format(text)))) is str
        assert found(matched(item.format(f"'{text}'"))) == text


@pytest.mark.parametrize("place", PLACES)
def test_match_values_that_yaml_reads_as_another_type_need_quotes(place: str) -> None:
    item, found = PLACES[place]
    for text in REFUSED:
        with pytest.raises(SettingsError, match=r"quotes|is empty|at least one|must be a list"):
            matched(item.format(text))
        assert found(matched(item.format(f"'{text}'"))) == text


def test_names_and_labels_are_taken_literally() -> None:
    for text in AS_WRITTEN:
        if text == HUGE:
            continue  # a key has 1,024 characters at most
        rates = parse(f"limits: {{rate: {{customers: {{{text}: 100/s}}}}}}", GatewaySettings, "").limits.rate
        assert rates.customers == {text: 100.0}
        model = parse(f"modality: {text}\nprediction: {{output: {text}, labels: [{text}]}}", ModelSettings, "")
        assert model.main_prediction is not None
        assert (model.modality, model.main_prediction.output, model.main_prediction.labels) == (text, text, (text,))
        split = parse(f"models: {{m: {{stable: 1, split: {{salt: {text}}}}}}}", RoutingSettings, "").models["m"].split
        assert split is not None
        assert split.salt == text


@pytest.mark.parametrize("text", ["null", "on", "True", "2024-01-01"])
def test_names_and_labels_that_yaml_reads_as_another_type_need_quotes(text: str) -> None:
    for file, schema in (
        (f"limits: {{rate: {{customers: {{{text}: 100/s}}}}}}", GatewaySettings),
        (f"prediction: {{output: o, labels: [a, {text}]}}", ModelSettings),
        (f"prediction: {{output: {text}}}", ModelSettings),
        (f"models: {{{text}: {{stable: 1}}}}", RoutingSettings),
    ):
        assert "quotes" in refusal(file, schema)


def refusal(text: str, schema: type[Settings]) -> str:
    with pytest.raises(SettingsError) as error:
        parse(text, schema, "file.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    "name", ["2024", "1e3", "0123", "1_000", "0x1F", "on", "No", "null", "~", "", "2024-01-01", "true"]
)
def test_route_name_that_yaml_reads_as_another_type_needs_quotes(name: str) -> None:
    text = "models: {m: {stable: 1, candidate: 2, split: {routes: [{name: %s, weight: 5}]}}}"
    message = refusal(text % name, RoutingSettings)
    assert "models.m.split.routes[0].name: " in message
    assert "put it in quotes" in message
    assert name == "~" or name == "" or parse(text % f"'{name}'", RoutingSettings, "")


def weight(text: str) -> Any:
    file = f"models: {{m: {{stable: 1, candidate: 2, split: {{routes: [{{name: r, weight: {text}}}]}}}}}}"
    split = parse(file, RoutingSettings, "").models["m"].split
    assert split is not None
    return split.routes[0].weight


@pytest.mark.parametrize(
    ("text", "ppm"), [(text, round(float(text) * 10_000)) for text in NUMBERS if float(text) <= 100]
)
def test_weight_is_read_as_plain_decimal(text: str, ppm: int) -> None:
    assert weight(text) == ppm


NUMBER_PLACES = {  # where a number is wanted
    "weight": (
        "models: {{m: {{stable: 1, candidate: 2, split: {{routes: [{{name: r, weight: {0}}}]}}}}}}",
        RoutingSettings,
    ),
    "ramp": ("models: {{m: {{stable: 1, ramp: {{weights: [{0}]}}}}}}", RoutingSettings),
    "mirror": ("models: {{m: {{stable: 1, mirror: {{weight: {0}}}}}}}", RoutingSettings),
    "level": (
        "models: {{m: {{stable: 1, guards: {{limits: [{{name: l, metric: stable.error_rate, above: {0}}}]}}}}}}",
        RoutingSettings,
    ),
    "alpha": ("models: {{m: {{stable: 1, guards: {{alpha: {0}}}}}}}", RoutingSettings),
    "count": ("models: {{m: {{stable: 1, guards: {{breaker: {{consecutive_failures: {0}}}}}}}}}", RoutingSettings),
    "stable": ("models: {{m: {{stable: {0}}}}}", RoutingSettings),
    "candidate": ("models: {{m: {{stable: 1, candidate: {0}}}}}", RoutingSettings),
    "duration": ("server: {{drain: {0}}}", GatewaySettings),
    "size": ("server: {{max_body: {0}}}", GatewaySettings),
    "rate": ("limits: {{rate: {{default: {0}}}}}", GatewaySettings),
    "port": ("server: {{port: {0}}}", GatewaySettings),
    "workers": ("server: {{workers: {0}}}", GatewaySettings),
    "threads": ("threads: {0}", ModelSettings),
    "batch": ("batching: {{max_size: {0}}}", ModelSettings),
}


@pytest.mark.parametrize("place", NUMBER_PLACES)
def test_numbers_that_yaml_readers_disagree_on_are_refused(place: str) -> None:
    file, schema = NUMBER_PLACES[place]
    for text in (*ODD, "yes", "on", "true", "2024-01-01", "\u0661", "-0x1"):
        message = refusal(file.format(text), schema)
        assert len(message) < 500
        if text in ("010", "1:30", "0x1F", "1_000"):
            assert text in message
            assert "plain" in message or "for example" in message


@pytest.mark.parametrize("text", ["01", "1.0", "0x1", "1e0", "+1", "-1", "0", "'1'", "1_0", "true", "1.", "[1]", HUGE])
def test_version_that_is_not_a_plain_whole_number_is_refused(text: str) -> None:
    message = refusal(f"models: {{m: {{stable: {text}}}}}", RoutingSettings)
    assert message.startswith("file.yaml: models.m.stable: ")
    assert "versions are whole numbers from 1" in message


def test_unquoted_values_in_a_keys_file_are_taken_literally() -> None:
    sha256 = "a" * 64
    text = (
        f"keys: [{{id: 1234e567, sha256: {sha256}, customer: 0123, scopes: [predict], created: 2026-01-01T00:00:00Z}}]"
    )
    (key,) = parse(text, KeysSettings, "").keys
    assert (key.id, key.customer, key.created.year) == ("1234e567", "0123", 2026)
    expires = text.replace("created:", "expires: 2027-01-01 10:00:00Z, created:")
    assert parse(expires, KeysSettings, "").keys[0].expires is not None
    assert "quotes" in refusal(text.replace("0123", "on"), KeysSettings)


def test_request_value_equals_the_same_text_in_the_file() -> None:
    """Customer 0123 is not customer 83, as YAML 1.1 would read it; JSON numbers are compared as Python writes them."""
    not_0123 = matched("{customer: {not: {in: [0123]}}}").customer
    assert not_0123 is not None
    assert [compile_matcher(not_0123)(customer) for customer in ("0123", "83", "123", None)] == [
        False,
        True,
        True,
        True,
    ]
    price = matched("{parameters: {price: {in: [1.1, 1000.0]}}}").parameters["price"]
    assert [compile_matcher(price)(text_of(number)) for number in (1.10, 1e3, 1.11)] == [True, True, False]


def test_version_too_large_for_a_prediction_id_is_refused() -> None:
    assert parse(f"models: {{m: {{stable: {2**32 - 1}}}}}", RoutingSettings, "r").models["m"].stable == 2**32 - 1
    for version in (2**32, 20261126163839123456):
        with pytest.raises(SettingsError, match=r"models\.m\.stable: .* 4294967295 is the largest"):
            parse(f"models: {{m: {{stable: {version}}}}}", RoutingSettings, "r")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("weight: yes", "true is not understood"),
        ("weight: null", "null is not understood"),
        ("weight: 5, while: off", "must be a list; it is false"),
    ],
)
def test_wrong_value_is_shown_as_yaml_spells_it(written: str, shown: str) -> None:
    routes = f"[{{name: r, {written}}}]"
    assert shown in refusal(f"models: {{m: {{stable: 1, candidate: 2, split: {{routes: {routes}}}}}}}", RoutingSettings)


def test_duration_without_a_unit_gets_small_and_large_ones_as_examples() -> None:
    file = "models: {m: {stable: 1, rescue: {timeout: 500}}}"
    assert "500 needs a unit of time: us, ms, s, m, h or d; write for example 500ms or 500s" in refusal(
        file, RoutingSettings
    )


def test_weights_of_ramp_and_mirror_may_have_a_percent_sign() -> None:
    text = "models: {m: {stable: 1, ramp: {weights: [%s]}, mirror: {weight: %s}}}"
    signed, plain = (parse(text % values, RoutingSettings, "") for values in (("0.1%, 5%", "10%"), ("0.1, 5", "10")))
    assert signed == plain
    assert "101%' is not a percentage from 0 to 100" in refusal(text % ("5", "101%"), RoutingSettings)
