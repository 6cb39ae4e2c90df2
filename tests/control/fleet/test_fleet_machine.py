"""The simulated fleet under whatever commands and faults hypothesis thinks of, in any order."""

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from loadtests.fleet.faults import PLAN, started_life
from loadtests.fleet.network import MS
from loadtests.fleet.node import Node
from loadtests.fleet.world import BEAT_NS, RELEASES, World

HOSTS = 3


class Fleet(RuleBasedStateMachine):
    """The checker of the world raises if a promise is broken."""

    @initialize(seed=st.integers(0, 2**32), bad=st.sampled_from([0.0, 0.05]), hold=st.booleans())
    def begin(self, seed: int, bad: float, hold: bool) -> None:
        """Start hosts that open after a lease."""
        random = Random(seed)
        nodes = [Node("abc"[index], random, 500 * (index - 1), 0, hold=hold and not index) for index in range(HOSTS)]
        self.world = World(random, nodes, loss=bad, slow=bad)
        for node in nodes:
            node.kept.append(started_life())
            self.world.start(node, copies=0)
        self.world.run(2000 * MS)

    @rule(beats=st.integers(1, 8), part=st.floats(0, 1))
    def time_passes(self, beats: int, part: float) -> None:
        self.world.run(self.world.now_ns + int(beats * part * BEAT_NS))

    @rule(name=st.sampled_from(sorted(PLAN)), host=st.integers(0, HOSTS - 1), release=st.sampled_from(RELEASES))
    def something_happens(self, name: str, host: int, release: str) -> None:
        PLAN[name](self.world, self.world.nodes[host], release)

    @rule()
    def a_snapshot_is_taken(self) -> None:
        self.world.take_snapshot()


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
