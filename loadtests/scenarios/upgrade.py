"""Three hosts upgraded one by one under load, from another checkout (--checkout) to this one, and into a fleet.

wrk asks through HAProxy, and every host is watched. Once while the candidate is in service, and once while it is
stopped on every host: then no answer may come from it until it is resumed. No request may fail. Needs root.
"""

import signal
import sys
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from loadtests.fleet.rig.course import RECOVERED_WITHIN_S, Course, Row
from loadtests.fleet.rig.hosts import Host
from loadtests.fleet.rig.namespaces import why_not
from loadtests.fleet.rig.rig import OPEN_WITHIN_S, fleet, settings_of
from loadtests.fleet.rig.stores import PROGRAMS
from loadtests.report import write

BETWEEN_S: Final = 2.0  # from one host's upgrade to the next one's
COUNTS: Final = ("times", "answers", "late", "failed", "lost")  # of a row


def run(folder: Path, rounds: int, seconds: int, checkout: Path | None = None) -> bool:
    """`rounds`: of both. `checkout`: the release before."""
    if checkout is None:
        raise click.UsageError("--checkout is missing: the folder of another checkout, say of `git worktree add`")
    if missing := why_not(PROGRAMS["redis"], "haproxy", "wrk"):
        raise SystemExit(f"loadtests upgrade: {missing}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is removed
    rows = Row("upgraded in service"), Row("upgraded while stopped")
    for number in range(rounds):
        for row, stopped in zip(rows, (False, True), strict=True):
            _upgrade_all(folder / f"{number}-{stopped}", checkout.resolve(), row, stopped=stopped)
    for row in rows:
        counts = f"{row.times} x, {row.answers} answers, {row.late} late, {row.failed} failed, {row.lost} lost"
        Console().print(f"{row.name}: {counts}{''.join(f'; {text}' for text in row.wrong)}")
    write("upgrade", {row.name: {**{name: getattr(row, name) for name in COUNTS}, "wrong": row.wrong} for row in rows})
    return all(row.met for row in rows)


def _upgrade_all(folder: Path, checkout: Path, row: Row, *, stopped: bool) -> None:
    with fleet(folder, checkout=checkout) as rig, rig.saturated() as end:
        course = Course(rig, row)
        try:
            course.run(lambda course: _course(course, stopped=stopped))
        finally:
            course.close()
            row.failed += end()


def _course(course: Course, *, stopped: bool) -> None:
    hosts, watch = course.rig.hosts, course.watch
    if stopped:
        for host in hosts:
            course.expect(host.stop().status == 200, f"{host.name} stops")
        watch.forbid()
    for host in hosts:
        _upgrade(course, host)
        watch.busy(BETWEEN_S)
    if stopped:
        course.until(lambda: all(host.stopped() for host in hosts), "every host knows the stop")
        watch.busy(OPEN_WITHIN_S / 4)  # a new fleet opens after ten leases
        course.resume(hosts[0])
    else:
        closed = watch.until_all_answer_from_candidates(OPEN_WITHIN_S)
        course.expect(not closed, f"no answer from the candidate after the upgrade: {', '.join(closed)}")
    told = course.stop(hosts[-1])
    course.expect(told.document["fleet"]["hosts"] == len(hosts), f"all hosts confirm: {told}")
    watch.busy(RECOVERED_WITHIN_S / 10)


def _upgrade(course: Course, host: Host) -> None:
    course.watch.leave_out(host)
    host.terminate()
    host.wait_ended()
    host.upgrade(settings_of(host.name, course.rig.store.url))
    host.start()
    course.take_in(host)
