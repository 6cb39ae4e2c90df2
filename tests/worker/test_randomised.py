"""Which predictions count as assigned at random: those whose feedback would, in the epoch of their assignment."""

from pathlib import Path

import pytest

from loadtests import moody
from loadtests.moody import row
from tests.blamed import Bench, flawed, on_loop, routing


def counted(bench: Bench, epoch: int = 1) -> tuple[int, int]:
    """Stable's and the candidate's in this epoch."""
    words = bench.served.candidate.tally._words[-3:].tolist()
    return (words[1], words[2]) if words[0] == epoch else (0, 0)


def test_answers_of_both_versions_count_by_the_one_that_was_drawn_in_their_epoch(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        for variant, count in (("candidate", 3), ("stable", 5)):
            for _ in range(count):
                await bench.ask(row(), row(), variant=variant)
        assert counted(bench) == (5, 3)
        late = bench.begin(moody.body(row()))
        bench.switch.epoch = 2  # type: ignore[misc]
        await bench.ask(row(), variant="candidate")
        await bench.end(late)
        assert counted(bench, 2) == (0, 1)

    on_loop(tmp_path, test)


@pytest.mark.parametrize("weight", [0, 100])
def test_answers_that_could_not_have_been_the_others_do_not_count(tmp_path: Path, weight: float) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(5):
            await bench.ask(row())
        assert counted(bench) == (0, 0)

    on_loop(tmp_path, test, rules=routing(weight))


def test_rescued_and_failed_and_pinned_ones_do_not_count(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        reply = await bench.ask(row(luck=0.3), variant="candidate")
        assert reply.call.rescued
        await bench.ask(row(broken=1), variant="stable")
        call = bench.begin(moody.body(row()))
        call.decision = bench.served.release.pinned(1)
        call.version = bench.served.stable
        await bench.end(call)
        assert counted(bench) == (0, 0)

    on_loop(tmp_path, test, make=flawed)
