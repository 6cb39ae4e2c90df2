"""A routing file truncated at any byte is refused, or changes no version, undoes no stop and raises no weight."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control.config.memory import RememberedRelease, remember
from gateway.control.config.resolve import ResolvedRouting, ResolveInput
from gateway.control.config.review import AcceptedText, edit_decisions, parse_accepted, validate
from gateway.errors import SettingsError
from gateway.routing.attributes import Attributes
from gateway.routing.release import Release
from gateway.settings.routing import ReleaseSettings

ROOT = Path(__file__).parents[3]
RICH = b"""\
models:
  gone-soon: {stable: 12, candidate: 13, split: {salt: s, routes: [{name: all, weight: 50}]}}
  alone:
    stable: 12
  wide:
    stable: 12
    candidate: 21
    guards:
      breaker: {consecutive_failures: 5}
    mirror: {weight: 10}
    split:
      routes:
        - name: beta
          weight: 50
          match:
            - customer: {prefix: beta-}
              headers: {x-region: {prefix: eu-}}
            - customer: {not: {in: [acme, globex]}}
        - weight: 25
          name: rest
          while:
            - {metric: candidate.error_rate, below: 1%, window: 30s}
      salt: a-salt
      stickiness: prediction
  ramped:
    candidate: 30
    stable: 12
    split: {routes: [{name: all, weight: ramp}]}
    ramp:
      advance: no-violation
      weights:
        - 5
        - 10
      interval: 10m
  last:
    candidate: 2
    split: {routes: [{weight: 100, name: everyone}]}
    stable: 12
"""
FILES = {
    "shipped": (ROOT / "config/routing.yaml").read_bytes(),
    "kubernetes": (ROOT / "config/kubernetes/base/routing.yaml").read_bytes(),
    "rich": RICH,
    "crlf": RICH.replace(b"\n", b"\r\n"),
    "flow": b"models: {m: {stable: 12, candidate: 13, split: {routes: [{name: a, weight: 50}]}}, n: {stable: 10}}\n",
}
VERSIONS = tuple(range(1, 40))
ASKED = [
    Attributes(customer, modality, headers, {})
    for customer in (None, "acme", "globex", "beta-1", "else")
    for modality, headers in ((None, {}), ("image", {"x-region": "eu-west"}), ("image", {"x-region": "us"}))
]


def known(before: AcceptedText, stopped: frozenset[tuple[str, int]]) -> ResolveInput:
    """The state of a gateway that has served `before` and a model without an entry, with many versions on disk."""
    memory = {name: remember(entry) for name, entry in before.routing.models.items()}
    memory["unnamed"] = RememberedRelease(3, configured=False)
    return ResolveInput(memory, {name: VERSIONS for name in memory}, stopped, memory.keys())


def candidates(before: AcceptedText) -> frozenset[tuple[str, int]]:
    models = before.routing.models.items()
    return frozenset((name, entry.candidate) for name, entry in models if entry.candidate is not None)


def lengths(
    content: bytes, before: AcceptedText, known: ResolveInput
) -> Iterator[tuple[int, AcceptedText, ResolvedRouting]]:
    for length in range(len(content)):
        try:
            text, resolved = validate(content[:length], before, known, "routing.yaml")
        except SettingsError as error:
            assert all(str(error).splitlines())
        else:
            yield length, text, resolved


def weight(name: str, settings: ReleaseSettings, attributes: Attributes) -> int:
    """What decides whether the candidate gets a request. Live weights are the controller's, so they count as 100%."""
    release = Release(name, settings)
    release.set_weights([1_000_000] * len(release.live_routes))
    return release.decide(attributes, "key").weight_ppm


LONG = [pytest.param(name, marks=pytest.mark.slow) if name in ("shipped", "crlf") else name for name in FILES]


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("stops", ["nothing", "one", "all"])
def test_file_truncated_at_any_length_is_refused_or_harmless(name: str, stops: str) -> None:
    content = FILES[name]
    before = parse_accepted(content)
    every = candidates(before)
    stopped = {"nothing": frozenset(), "one": frozenset(sorted(every)[-1:]), "all": every}[stops]
    seen = known(before, stopped)
    for length, text, resolved in lengths(content, before, seen):
        assert resolved.routing.models.keys() == seen.memory.keys(), length
        for model, release in resolved.routing.models.items():
            old = before.routing.models.get(model, seen.memory[model].release())
            if release.stable != old.stable:
                assert str(old.stable).startswith(str(release.stable)), length
                reasons = [
                    one.reason
                    for one in edit_decisions(before.routing, text.routing, resolved.notes)
                    if one.model == model
                ]
                assert any(f"stable {old.stable} -> {release.stable}" in reason for reason in reasons), (
                    length,
                    reasons,
                )
                assert (model, release.stable) not in stopped
            assert release.candidate in (old.candidate, None), length
            if release.candidate is None or (model, release.candidate) in stopped:
                continue
            assert (old.guards, old.ramp, old.rescue) == (release.guards, release.ramp, release.rescue), length
            for asked in ASKED:
                assert weight(model, release, asked) <= weight(model, old, asked), (length, model, asked)


@pytest.mark.parametrize("name", LONG)
def test_file_truncated_at_any_length_then_restored_keeps_stop_and_salt(name: str) -> None:
    """Stops and salts are as they were."""
    content = FILES[name]
    before = parse_accepted(content)
    seen = known(before, candidates(before))
    for length, text, resolved in lengths(content, before, seen):
        later = ResolveInput(resolved.memory, seen.versions, seen.stopped, seen.loaded)
        _, again = validate(content, text, later, "routing.yaml")
        for model, entry in before.routing.models.items():
            assert again.routing.models[model] == entry, (length, model)
        assert again.memory["unnamed"].stable == 3


def test_truncated_version_number_is_accepted_and_recorded() -> None:
    before = parse_accepted(b"models:\n  m:\n    stable: 12\n")
    text, resolved = validate(b"models:\n  m:\n    stable: 1", before, known(before, frozenset()), "routing.yaml")
    assert resolved.routing.models["m"].stable == 1
    (one,) = edit_decisions(before.routing, text.routing, resolved.notes)
    assert one.reason == "models.m: stable 12 -> 1, by the file"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("weight: 10\n          match: [{customer: acme}]\n", "weight: 10\n"),
        ("weight: 10\n          while: [{metric: candidate.error_rate, below: 1%, window: 30s}]\n", "weight: 10\n"),
        (
            "match: [{customer: acme}]\n          weight: 10\n    guards: {alpha: 1%}\n",
            "match: [{customer: acme}]\n          weight: 10\n",
        ),
    ],
)
def test_truncation_that_raises_traffic_is_refused_unless_confirmed(before: str, after: str) -> None:
    head = "models:\n  m:\n    stable: 1\n    candidate: 2\n    split:\n      routes:\n        - name: a\n          "
    whole = parse_accepted((head + before).encode())
    with pytest.raises(SettingsError, match=r"models\.m: .*truncated.*comment line"):
        validate((head + after).encode(), whole, known(whole, frozenset()), "routing.yaml")
    validate((head + after + "# meant\n").encode(), whole, known(whole, frozenset()), "routing.yaml")


BASE = (
    b"models:\n  a: &base {stable: 1, candidate: 2, split: {routes: [{name: all, weight: 50}]}}\n  b:\n    <<: *base\n"
)


@pytest.mark.parametrize("rest", [b"    candidate: null\n    split: null\n", b"    stable: 3\n"])
def test_truncation_after_an_anchor_of_another_entry_is_refused(rest: bytes) -> None:
    whole = parse_accepted(BASE + rest)
    with pytest.raises(SettingsError, match=r"models\.b: .*truncated"):
        validate(BASE, whole, known(whole, frozenset()), "routing.yaml")


def test_deleting_the_end_is_accepted_where_it_only_removes_traffic() -> None:
    text = "models:\n  m:\n    stable: 1\n    candidate: 2\n    split: {routes: [{name: a, weight: 5}]}\n"
    whole = parse_accepted(text.encode())
    for kept in (3, 4):
        shorter = "".join(text.splitlines(keepends=True)[:kept]).encode()
        _, resolved = validate(shorter, whole, known(whole, frozenset()), "routing.yaml")
        assert resolved.routing.models["m"].stable == 1
