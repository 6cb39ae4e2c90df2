"""Loading the YAML files: what they mean, and that every mistake is reported with its path and a remedy."""

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SettingsError
from gateway.settings.base import Settings
from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import load_gateway, load_model, load_routing, parse
from gateway.settings.model import ModelSettings
from gateway.settings.routing import RoutingSettings

# Each file with every key of the design: all of it must parse.
WHOLE_GATEWAY = """
server:  {host: 127.0.0.1, port: 8000, workers: auto, max_body: 64MiB, drain: 20s, log: json}
control: {host: 127.0.0.1, port: 8002, heartbeat_timeout: 5s}
models:  {path: models}
routing: config/routing.yaml
state:   .gateway
limits:  {inflight: 1024, timeout: 10s, rate: {default: null, customers: {acme: 100/s}}}
records: {sample: 100%, inputs: full, segment: 64MiB, retain: 10GiB, ring: 8MiB, when_full: drop}
auth:    {keys: null}
"""
WHOLE_ROUTING = """
models:
  digits:
    stable: 1
    canary: 2
    split:
      stickiness: header:X-User
      salt: digits-2
      routes:
        - name: pilot
          match: [{customer: {in: [acme, globex]}}]
          weight: 100
        - name: eu-images
          match:
            - modality: {exact: image}
              headers: {X-Region: {prefix: eu-, not: {suffix: -test}}}
              parameters: {tier: 1}
          weight: 0.1%
          while:
            - {metric: candidate.latency_p99_ms, below: 40, window: 30s}
            - {metric: candidate.error_rate, below: 1%, window: 30s}
        - name: everyone
          weight: ramp
    ramp: {weights: [0.1, 1, 5, 25, 50, 100], interval: 10m, advance: safe}
    mirror: {weight: 5}
    rescue: {timeout: 500ms}
    guards:
      alpha: 1%
      breaker: {consecutive_failures: 5}
      limits:
        - {name: hard, metric: candidate.error_rate, above: 5%, window: 30s, min_requests: 100, action: stop}
      comparisons:
        - {name: errors, metric: failures, action: stop}
        - {name: slow, metric: slow_requests, threshold: 50ms, action: stop}
        - {name: drift, metric: predicted_class, action: pause}
"""


def refusal(text: str, schema: type[Settings]) -> str:
    with pytest.raises(SettingsError) as error:
        parse(text, schema, "file.yaml")
    return str(error.value)


def test_complete_server_file_is_parsed() -> None:
    settings = parse(WHOLE_GATEWAY, GatewaySettings, "")
    assert settings.server.max_body == 64 * 1024**2
    assert (settings.server.drain, settings.limits.timeout) == (20.0, 10.0)
    assert settings.limits.rate.customers == {"acme": 100.0}
    assert settings.records.sample == 1.0


def test_complete_routing_file_is_parsed() -> None:
    release = parse(WHOLE_ROUTING, RoutingSettings, "").models["digits"]
    assert (release.stable, release.candidate) == (1, 2)
    assert release.split is not None
    assert release.split.stickiness == "header:x-user"
    pilot, images, everyone = release.split.routes
    assert (pilot.weight, images.weight, everyone.weight) == (1_000_000, 1_000, "ramp")
    assert pilot.match[0].customer is not None
    assert pilot.match[0].customer.in_ == {"acme", "globex"}
    assert images.match[0].headers["x-region"].not_ is not None
    assert images.match[0].parameters["tier"].exact == "1"
    assert images.while_[1].below == 0.01
    assert release.guards is not None
    assert release.guards.comparisons[1].threshold == 0.05


def test_empty_file_gives_the_defaults() -> None:
    assert parse("", GatewaySettings, "") == GatewaySettings()
    assert parse("# nothing", RoutingSettings, "").models == {}


def test_model_file_is_parsed() -> None:
    assert parse("batching: off", ModelSettings, "").batching is False
    batching = parse("batching: {max_delay: 2ms}", ModelSettings, "").batching
    assert batching
    assert (batching.max_size, batching.max_delay) == (32, 0.002)


@pytest.mark.parametrize(
    ("value", "expected"), [("20s", 20.0), ("500ms", 0.5), ("0us", 0.0), ("250µs", 0.00025), ("10m", 600.0), (0, 0.0)]
)
def test_durations_are_parsed(value: Any, expected: float) -> None:
    assert parse(f"server: {{drain: {value}}}", GatewaySettings, "").server.drain == pytest.approx(expected)


@pytest.mark.parametrize(("value", "ppm"), [(10, 100_000), ("1%", 10_000), (0.0001, 1), (100, 1_000_000), (0.07, 700)])
def test_weights_are_parsed_to_ppm(value: Any, ppm: int) -> None:
    text = f"models: {{m: {{stable: 1, candidate: 2, split: {{routes: [{{name: r, weight: {value}}}]}}}}}}"
    split = parse(text, RoutingSettings, "").models["m"].split
    assert split is not None
    assert split.routes[0].weight == ppm


# the content of the file, the path that must be named, what the message must contain
GATEWAY_MISTAKES = [
    ("server: {prot: 80}", "server.prot", "did you mean 'port'"),
    ("modles: {path: x}", "modles", "did you mean 'models'"),
    ("server: {port: x}", "server.port", "whole number"),
    ("server: {port: 70000}", "server.port", "65535"),
    ("server: {drain: 20}", "server.drain", "20s"),
    ("server: {drain: soon}", "server.drain", "20s"),
    ("server: {max_body: 64Mb}", "server.max_body", "MiB"),
    ("server: {workers: many}", "server.workers", "'auto'"),
    ("server: [1]", "server", "key: value"),
    ("limits: {inflight: 0}", "limits.inflight", "greater than 0"),
    ("limits: {timeout: 0s}", "limits.timeout", "greater than 0"),
    ("control: {heartbeat_timeout: 0s}", "control.heartbeat_timeout", "greater than 0"),
    ("limits: {rate: {default: 100}}", "limits.rate.default", "100/s"),
    ("records: {inputs: some}", "records.inputs", "'full', 'hash' or 'none'"),
    ("a: {b: 1, b: 2}", "line 1, column 11", "'b' is given twice"),
    ("a: [", "line 2, column 1", ""),
    ("- 1", "file.yaml", "key: value"),
    ("a: \x00", "file.yaml", "not valid YAML"),
    ("a: !!bool 7", "file.yaml", "not valid YAML"),
    ("a: !!timestamp now", "file.yaml", "not valid YAML"),
    ("? !!set {a}\n: 1", "line 1, column 3", "a key must be plain text"),
]


@pytest.mark.parametrize(("text", "path", "says"), GATEWAY_MISTAKES)
def test_mistake_in_the_server_file_is_refused_by_its_path(text: str, path: str, says: str) -> None:
    message = refusal(text, GatewaySettings)
    assert path in message
    assert says in message


ROUTE_MISTAKES = [
    ("weight: 101", "routes[0].weight", "0 to 100"),
    ("weight: -1", "routes[0].weight", "percent"),
    ("weight: lots", "routes[0].weight", "percent"),
    ("weight: 0.00001", "routes[0].weight", "0.0001%"),
    ("weight: ramp", "models.m", "the release has no ramp"),
    ("wieght: 5", "routes[0].wieght", "did you mean 'weight'"),
    ("match: [{modalty: image}]", "routes[0].match[0].modalty", "did you mean 'modality'"),
    ("match: [{customer: {oneof: [a]}}]", "routes[0].match[0].customer", "unknown key"),
    ("match: [{customer: {}}]", "routes[0].match[0].customer", "is empty"),
    ("match: [{customer: [a, b]}]", "routes[0].match[0].customer", "{in: [...]}"),
    ("match: [{customer: {in: []}}]", "routes[0].match[0].customer.in", "at least one"),
    ("match: [{customer: {in: [no]}}]", "routes[0].match[0].customer.in", "quotes"),
    ("match: [{customer: yes}]", "routes[0].match[0].customer", "quotes"),
    ("match: [{customer: {regex: '(a+)+(?=b)'}}]", "routes[0].match[0].customer.regex", "neither look-around"),
    ("match: [{headers: {x-a: {regex: '['}}}]", "routes[0].match[0].headers.x-a.regex", "RE2"),
    ("match: {customer: a}", "routes[0].match", "must be a list"),
    ("match: [{customer: }]", "routes[0].match[0].customer", "is empty"),
    ("match: [{modality: null}]", "routes[0].match[0].modality", "is empty"),
    ("match: [{customer: {not: }}]", "routes[0].match[0].customer.not", "is empty"),
    ("match: [{customer: {not: {not: }}}]", "routes[0].match[0].customer.not.not", "is empty"),
    ("match: [{customer: {regex: }}]", "routes[0].match[0].customer.regex", "is empty"),
    ("match: [{customer: {exact: }}]", "routes[0].match[0].customer.exact", "not text"),
    ("match: [{customer: {in: }}]", "routes[0].match[0].customer.in", "at least one"),
    ("match: [{headers: }]", "routes[0].match[0].headers", "key: value"),
    ("match: [{headers: {x-a: }}]", "routes[0].match[0].headers.x-a", "not text"),
    ("match: [{headers: {X-A: a, x-a: b}}]", "routes[0].match[0].headers", "'x-a' is listed twice"),
    ("while: [{metric: candidate.errors, below: 1}]", "routes[0].while[0].metric", "candidate.error_rate"),
    ("while: [{metric: candidate.error_rate}]", "routes[0].while[0]", "either below or above"),
]


@pytest.mark.parametrize(("route", "path", "says"), ROUTE_MISTAKES)
def test_mistake_in_a_route_is_refused_by_its_path(route: str, path: str, says: str) -> None:
    weight = "" if "weight" in route or "wieght" in route else ", weight: 5"
    text = f"models: {{m: {{stable: 1, candidate: 2, split: {{routes: [{{name: r, {route}{weight}}}]}}}}}}"
    message = refusal(text, RoutingSettings)
    assert path in message
    assert says in message


RELEASE_MISTAKES = [
    ("m: {}", "models.m", "'stable' is missing"),
    ("m: {stable: 0}", "models.m.stable", "whole numbers from 1"),
    ("m: {stable: '1'}", "models.m.stable", "whole numbers from 1"),
    ("m: {stable: 1, candidate: 1}", "models.m", "both version 1"),
    ("m: {stable: 1, candidate: 2, canary: 3}", "models.m", "both candidate and canary"),
    (".m: {stable: 1}", "models", "not starting with '.'"),
    ("m/n: {stable: 1}", "models", "letters, digits"),
    ("m: {stable: 1, split: {routes: [{name: r, weight: 5}]}}", "models.m", "no candidate"),
    ("m: {stable: 1, candidate: 2, split: {stickiness: cookie}}", "models.m.split.stickiness", "header:NAME"),
    (
        "m: {stable: 1, candidate: 2, split: {routes: [{name: r, weight: 1}, {name: r, weight: 2}]}}",
        "models.m.split",
        "two routes are named 'r'",
    ),
    (
        "m: {stable: 1, candidate: 2, split: {routes: [{name: default, weight: 1}]}}",
        "models.m.split.routes[0].name",
        "reserved",
    ),
    (
        "m: {stable: 1, guards: {limits: [{name: l, metric: stable.error_rate, above: 5%, window: 0s}]}}",
        "models.m.guards.limits[0].window",
        "greater than 0",
    ),
]


@pytest.mark.parametrize(("release", "path", "says"), RELEASE_MISTAKES)
def test_mistake_in_a_release_is_refused_by_its_path(release: str, path: str, says: str) -> None:
    message = refusal(f"models: {{{release}}}", RoutingSettings)
    assert path in message
    assert says in message


def test_all_mistakes_of_a_file_are_reported_at_once() -> None:
    message = refusal("server: {prot: 1, drain: 5}\nlimits: {inflight: x}", GatewaySettings)
    assert [line.split(":")[1].strip() for line in message.splitlines()] == [
        "server.drain",
        "server.prot",
        "limits.inflight",
    ]


def write(folder: Path, text: str) -> Path:
    file = folder / "file.yaml"
    file.write_text(text)
    return file


def test_complete_files_are_loaded(tmp_path: Path) -> None:
    assert load_gateway(write(tmp_path, WHOLE_GATEWAY)).limits.rate.customers == {"acme": 100.0}
    assert load_routing(write(tmp_path, WHOLE_ROUTING)).models["digits"].candidate == 2


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load_gateway(tmp_path / "absent.yaml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_routing(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_model(tmp_path / "latin.yaml")


def test_mistakes_in_every_line_of_a_long_list_are_reported_briefly() -> None:
    lines = "\n".join(f"      - customer: customer-{number}" for number in range(5000))
    text = f"models:\n  digits:\n    stable: 1\n    candidate: 2\n    split:\n      routes:\n{lines}\n"
    with pytest.raises(SettingsError) as raised:
        parse(text, RoutingSettings, "routing.yaml")
    assert raised.value.problems[0].startswith("models.digits.split.routes[0]")
    assert len(raised.value.problems) < 30
    assert "more mistakes" in raised.value.problems[-1]


@pytest.mark.parametrize("hosts", [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "127.0.0.1")])
def test_one_port_for_both_planes_is_refused(tmp_path: Path, hosts: tuple[str, str]) -> None:
    """The sockets of the workers could not be bound, for ever, and no message said why."""
    text = "server: {{host: {}, port: 8000}}\ncontrol: {{host: {}, port: 8000}}"
    with pytest.raises(SettingsError, match=r"server.port and control.port are both 8000"):
        load_gateway(write(tmp_path, text.format(*hosts)))


@pytest.mark.parametrize("port", [8000, 8002])
def test_port_of_the_metrics_must_be_its_own(tmp_path: Path, port: int) -> None:
    with pytest.raises(SettingsError, match=rf"control.metrics_port is {port}"):
        load_gateway(write(tmp_path, f"control: {{metrics_port: {port}}}"))


def test_one_port_on_two_addresses_and_two_free_ports_are_allowed(tmp_path: Path) -> None:
    for text in (
        "server: {host: 127.0.0.1, port: 8000}\ncontrol: {host: 127.0.0.2, port: 8000}",
        "server: {port: 0}\ncontrol: {port: 0}",
    ):
        load_gateway(write(tmp_path, text))
