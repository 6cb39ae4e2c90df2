"""Stops and resumes at saturation: how long a stop takes with all hosts in contact, and whether anything comes late."""

import time
from dataclasses import dataclass, field
from typing import Final

from loadtests.fleet.rig.course import RECOVERED_WITHIN_S, Course
from loadtests.scenarios.stop import first_in_line

BUSY_S: Final = 0.02
TOO_LONG_S: Final = 0.5  # until all answer from the candidate: a host had closed by itself


@dataclass(slots=True)
class Cycles:
    """`stop_ms`: by the caller, who goes before all others. `fsync_ms`: of a line appended beside the store's data.

    `closed`: how often a host took longer than half a second to answer from the candidate after a resume.
    """

    stop_ms: list[float] = field(default_factory=list)
    fsync_ms: list[float] = field(default_factory=list)
    hosts: list[int] = field(default_factory=list)
    closed: int = 0

    def run(self, course: Course) -> None:
        """One stop and resume on hosts at random; the candidate answers on all before it."""
        watch = course.watch
        watch.busy(BUSY_S)
        watch.send()
        host = course.rig.any_host()
        with first_in_line():
            told = host.stop()
            watch.forbid()
        self.stop_ms.append(told.ms)
        course.row.stop_ms.append(told.ms)
        course.expect(told.confirmed, f"the stop on {host.name}: {told}")
        self.hosts.append((told.document.get("fleet") or {}).get("hosts", 0))
        watch.busy(BUSY_S)
        self.fsync_ms.append(course.rig.store.fsync_ms())
        watch.allow()
        told = course.rig.any_host().resume()
        course.expect(told.status == 200, f"the resume: {told}")
        begun = time.monotonic()
        closed = watch.until_all_answer_from_candidates(RECOVERED_WITHIN_S)
        course.expect(not closed, f"no answer from the candidate after the resume: {', '.join(closed)}")
        self.closed += time.monotonic() - begun > TOO_LONG_S
