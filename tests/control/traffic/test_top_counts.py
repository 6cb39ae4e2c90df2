"""The most frequent routes and customers: the counts' guarantees, and the record lines that they are read from."""

import random
from collections import Counter

import pytest

from gateway.control.traffic.top_counts import MAX_MODELS, NO_CUSTOMER, SAMPLED, SpaceSaving, TopCounts
from tests.control.traffic.lines import line


def test_space_saving_is_exact_while_the_keys_fit() -> None:
    counts = SpaceSaving(3)
    for key, candidate in (("a", True), ("b", False), ("a", False), ("c", False), ("a", True)):
        counts.add(key, 1, candidate)
    found = [(key, one.requests, one.candidate, one.error) for key, one in counts.top(2)]
    assert found == [("a", 3, 2, 0), ("b", 1, 0, 0)]


@pytest.mark.parametrize("seed", range(5))
def test_space_saving_keeps_frequent_keys_and_bounds_the_error(seed: int) -> None:
    """Zipf: 5,000 customers, the n-th with a share of about 1/n, in any order."""
    generator, capacity = random.Random(seed), 50
    keys = generator.choices(range(1, 5001), [1 / rank for rank in range(1, 5001)], k=20_000)
    counts, true = SpaceSaving(capacity), Counter(map(str, keys))
    for key in keys:
        counts.add(str(key), 1, False)
    found = dict(counts.top(10 * capacity))
    assert capacity <= len(found) <= 2 * capacity
    assert {key for key, count in true.items() if count > len(keys) / capacity} <= found.keys()
    for key, one in found.items():
        assert one.requests - one.error <= true[key] <= one.requests
        assert one.error <= len(keys) / capacity
    assert [key for key, _ in counts.top(5)] == [key for key, _ in true.most_common(5)]


def counted(counts: TopCounts, kind: str, model: str = "m") -> dict[str, tuple[float, float]]:
    of = counts.of(model)
    assert of is not None
    return {key: (one.requests, one.candidate) for key, one in getattr(of, kind).top(100)}


def test_lines_are_counted_by_route_and_customer_whatever_they_contain() -> None:
    trap = b'{"parameters":{"route":"trap","customer":"trap"},"x":"\\n{\\"kind\\":\\"prediction\\""}'
    lines = [
        line(request=trap),
        line(route='pi"lot', customer='a"b\\', variant="candidate", request_id='r,"bucket":1,"customer":"trap",'),
        line(customer=None, delegated_by="shop", sha256=""),
        b'{"kind":"other","model":"m"}\n',
        line(customer="acme").replace(b'"acme"', b'"ac\x00me"'),
        line(model="n", customer="globex"),
    ]
    counts = TopCounts(clock=lambda: 5.0)
    counts.observe(memoryview(b"".join(lines)), len(lines))
    assert counted(counts, "routes") == {"everyone": (2, 0), 'pi"lot': (1, 1)}
    assert counted(counts, "customers") == {"acme": (1, 0), 'a"b\\': (1, 1), NO_CUSTOMER: (1, 0)}
    assert counted(counts, "customers", "n") == {"globex": (1, 0)}
    of = counts.of("m")
    assert of is not None
    assert (of.requests, of.since_s) == (3, 5.0)
    counts.forget("m")
    assert counts.of("m") is None


def test_long_pieces_are_sampled_and_counted_in_full() -> None:
    """Two thirds of the requests are acme's; their bodies are ten times as long, which must not count."""
    counts, total = TopCounts(seed=1), 0
    generator = random.Random(2)
    for _ in range(50):
        lines = [
            line(customer="acme", request=b"x" * 2000) if generator.random() < 2 / 3 else line(customer="globex")
            for _ in range(10 * SAMPLED)
        ]
        counts.observe(b"".join(lines), len(lines))
        total += len(lines)
    found = counted(counts, "customers")
    assert sum(requests for requests, _ in found.values()) == pytest.approx(total)
    assert found["acme"][0] / total == pytest.approx(2 / 3, abs=0.03)


def test_number_of_models_is_bounded() -> None:
    counts = TopCounts()
    for number in range(MAX_MODELS + 5):
        counts.observe(line(model=f"m{number}"), 1)
    assert counts.of(f"m{MAX_MODELS - 1}") is not None
    assert counts.of(f"m{MAX_MODELS}") is None
