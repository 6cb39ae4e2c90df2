"""Two servers measured in turn, so that a noisy machine is noisy for both."""

from collections.abc import Callable

from rich.progress import Progress

from loadtests.report import Line
from loadtests.wrk import Load, Measured, measure

Pair = tuple[list[Measured], list[Measured]]


def alternate(urls: tuple[str, str], load: Load, connections: list[int], rounds: int, seconds: int) -> dict[int, Pair]:
    """For each number of connections the measurements of both servers, round by round. The first call warms up."""
    found: dict[int, Pair] = {count: ([], []) for count in connections}
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=rounds * len(connections) * 2)
        for url in urls:
            measure(url, load, 8, 1)
        for turn in range(rounds):
            for count in connections:
                for side in (0, 1) if turn % 2 == 0 else (1, 0):
                    found[count][side].append(measure(urls[side], load, count, seconds))
                    progress.advance(task)
    return found


def line(name: str, unit: str, pair: Pair, read: Callable[[Measured], float], target: float, at_least: bool) -> Line:
    """One figure of the measurements as a line of the report."""
    reference, gateway = ([read(item) for item in side] for side in pair)
    return Line(name, unit, reference, gateway, target, at_least)
