"""Control's side of the records: creates the workers' rings, the writer that drains them, and the feedback counts."""

import logging
import re
import time
from pathlib import Path
from typing import Final

from gateway.control.record_writer.feedback_state import FeedbackState, ReplaceFile
from gateway.control.record_writer.feedback_stats import FeedbackStats, Place
from gateway.control.record_writer.writer import STREAMS, RecordWriter, RingSource, StreamHook
from gateway.control.traffic.top_counts import TopCounts
from gateway.errors import SettingsError
from gateway.messages import Rings
from gateway.records.sampling import sample_filter
from gateway.records.segments import FEEDBACK, MIRRORS, PREDICTIONS
from gateway.records.token_keys import TokenKeys, token_keys
from gateway.settings.gateway import RecordsSettings
from gateway.shm.failure_events import FailureEvent, unpack_all
from gateway.shm.ring import Ring
from gateway.shm.segment import memory_folder

FEEDBACK_BYTES: Final = 1 << 21
MIRROR_BYTES: Final = 1 << 20
EVENT_BYTES: Final = 1 << 18
EVENTS: Final = "events"
log: Final = logging.getLogger("gateway.control.record_writer")
_NAME: Final = re.compile(r".*-([a-z]+)-[0-9]+\.ring")


class RecordCollector:
    """Owns the rings of all workers, the RecordWriter that drains them, and FeedbackStats.

    `rings`: the ring paths for each worker. `name`: prefix of this state folder's memory files. `replace_file` saves
    the sums of feedback. The constructor takes over rings left by a killed run, and raises SettingsError if memory is
    short.
    """

    def __init__(
        self, settings: RecordsSettings, state: Path, name: str, workers: int, replace_file: ReplaceFile
    ) -> None:
        folder = state / "records"
        self.keys = token_keys(state)
        self._signer = self.keys.signer()
        self.feedback = FeedbackStats(self._signer)
        self._feedback_state = FeedbackState(self.feedback, state, replace_file)
        select = sample_filter(self._signer, settings.sample)
        listeners = {
            FEEDBACK: StreamHook(select, self._count_feedback),
            MIRRORS: StreamHook(lambda lines: lines, self.feedback.add_mirrors),
        }
        self.top_counts = TopCounts()
        self.writer = RecordWriter(folder, settings, listeners, self.top_counts.observe)
        self._sizes = {
            PREDICTIONS: settings.ring, FEEDBACK: FEEDBACK_BYTES, MIRRORS: MIRROR_BYTES, EVENTS: EVENT_BYTES
        }  # fmt: skip
        self._adopt(name)
        self._rings: list[Ring] = []
        self._events: list[Ring] = []
        run = f"{name}.{time.monotonic_ns():020}"  # as memory, unique since boot; a pid may be reused
        try:
            self.rings = [self._create_rings(run, worker) for worker in range(workers)]
        except SettingsError:
            for ring in self._rings:
                ring.remove()
            raise

    def adopt(self, keys: TokenKeys) -> None:
        """Verify prediction ids with these keys from now on; workers that start get them, too."""
        self.keys = keys
        self._signer.adopt(keys.pairs())

    def events(self) -> list[FailureEvent]:
        """Return the failure events of all workers since the last call."""
        found: list[FailureEvent] = []
        for ring in self._events:
            data = ring.pending(EVENT_BYTES)
            found += unpack_all(bytes(data))
            ring.release(len(data))
        return found

    def stop(self) -> None:
        """Write the remaining records, after the workers have ended. If the disk refuses some, their rings stay in
        memory for the next start.
        """
        self.writer.stop()
        self._feedback_state.save()
        for ring in self._rings:
            if ring.empty or ring in self._events:
                ring.remove()

    def _count_feedback(self, lines: bytes) -> None:
        self.feedback.add(lines)
        self._feedback_state.counted(Place(*self.writer.end_of(FEEDBACK)))

    def _create_rings(self, run: str, worker: int) -> Rings:
        paths = {}
        for stream, size in self._sizes.items():
            paths[stream] = memory_folder() / f"{run}-{stream}-{worker}.ring"
            ring = Ring.create(paths[stream], size)
            self._rings.append(ring)
            if stream == EVENTS:
                self._events.append(ring)
            else:
                self.writer.add(RingSource(ring, stream))
        return Rings(paths[PREDICTIONS], paths[FEEDBACK], paths[MIRRORS], paths[EVENTS])

    def _adopt(self, name: str) -> None:
        """Take over the rings of a killed run. Its workers may still write to them."""
        for path in memory_folder().glob(f"{name}.*"):
            if path.suffix[1:].isdigit():  # it was killed while creating this file
                path.unlink(missing_ok=True)
        for path in sorted(memory_folder().glob(f"{name}.*.ring")):
            match = _NAME.fullmatch(path.name)
            if match is None or match[1] not in STREAMS:
                path.unlink(missing_ok=True)  # failure events of a run and an epoch that are over
                continue
            try:
                self.writer.add(RingSource(Ring.attach(path), match[1], abandoned=True))
            except SettingsError as error:
                log.error(
                    "records that an earlier run left in shared memory cannot be collected, and stay there: %s", error
                )
