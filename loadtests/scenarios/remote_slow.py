"""slow_requests of two remote versions: a harmless twin is not stopped, a candidate that is twice as slow is."""

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.progress import track

from loadtests.compared import MEAN_MS, SHARE, SLOW_MS, Lasted, lasted
from loadtests.report import RESULTS, write

TWIN_S: Final = 60
SATURATING: Final = 64  # connections
CALM: Final = 4
LONGEST_S: Final = 60.0
SLOWER: Final = 2
# evidence.md: the median for a ratio of 10 at 10% of the traffic, where 1% of stable's requests are slow. Here it is
# 0.7% of stable's and 8% of the candidate's, and the guard is looked at every so often.
REQUESTS: Final = 474
WITHIN: Final = 3.0


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """The twin for a minute, or `rounds` · `seconds` where that is longer; a slow one `rounds` times."""
    twin = lasted(folder / "twin", MEAN_MS, max(TWIN_S, rounds * seconds), SATURATING)
    slow = [
        lasted(folder / f"slow-{turn}", SLOWER * MEAN_MS, LONGEST_S, CALM)
        for turn in track(range(rounds), "a candidate twice as slow", transient=True)
    ]
    requests = median(one.stable + one.candidate for one in slow)
    harmless = not twin.stopped_by and not twin.failed
    found = all(one.stopped_by.startswith("slow") and not one.failed for one in slow)
    met = harmless and found and requests <= WITHIN * REQUESTS
    console = Console(width=max(120, Console().width))
    console.print(f"stable's server: {MEAN_MS:g} ms on average; slow: {SLOW_MS:g} ms; to the candidate: {SHARE}%")
    console.print(f"harmless twin, {SATURATING} connections: {_told(twin)} {_mark(harmless)}")
    for one in slow:
        console.print(f"{SLOWER} times as slow, {CALM} connections: {_told(one)}")
    console.print(f"requests until then, median: {requests:,.0f} (≤ {WITHIN * REQUESTS:,.0f}) {_mark(met)}")
    write("remote_slow", {"twin": asdict(twin), "slow": [asdict(one) for one in slow], "met": met})
    console.print(f"Written to {RESULTS / 'remote_slow'}.json")
    return met


def _told(one: Lasted) -> str:
    total = one.stable + one.candidate
    end = f"stopped by {one.stopped_by}" if one.stopped_by else "not stopped"
    return f"{total:,} answers in {one.seconds:.1f} s, {one.candidate:,} by the candidate, {one.failed} failed; {end}"


def _mark(met: bool) -> str:
    return "[green]met[/green]" if met else "[red]missed[/red]"
