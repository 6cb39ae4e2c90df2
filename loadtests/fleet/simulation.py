"""Seeded runs of the simulated fleet, and what each must end with."""

from collections import Counter
from collections.abc import Iterable

from gateway.control.fleet.stop_call import StopOutcome, outcome
from loadtests.fleet.checker import Violation
from loadtests.fleet.faults import CALM_NS, new_world
from loadtests.fleet.world import RELEASES, TIMING, World


def run_seed(seed: int) -> Counter[str]:
    """Run one seed to its end and count what happened. Raises Violation, which names the seed."""
    world = new_world(seed)
    try:
        world.run(CALM_NS)
        settle(world)
    except Violation as violation:
        raise Violation(f"seed {seed} at {world.now_ns / 1e9:.3f} s: {violation}") from None
    return world.checker.counts


def settle(world: World) -> None:
    """Check the end: in contact for long, all hosts know the same, and each stop that was asked for is in force."""
    hosts = [node for node in world.nodes if node.host is not None]
    for node in hosts:
        host = node.host
        assert host is not None
        for release in RELEASES:
            if host.words.get(release) != world.store.words.get(release):
                raise Violation(f"knowledge: {host} and {world.store} differ in {release}")
        for call in node.calls:
            said = outcome(call.called, host, node.clock(world.now_ns), TIMING)
            if said is not StopOutcome.CONFIRMED and not any(member.hold for member in world.store.members.values()):
                raise Violation(f"liveness: {call.called} is {said} in calm")
        world.checker.counts["open at the end"] += host.open
        world.checker.counts["closed at the end"] += not host.open


def run_seeds(seeds: Iterable[int]) -> Counter[str]:
    """The counts of several runs together."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts.update(run_seed(seed))
        counts["runs"] += 1
    return counts
