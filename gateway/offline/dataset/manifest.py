"""Writes an export's manifest: its query, counts, columns, the hash of its content, and of each file.

It depends on the query and the records, not on when or where the export was made; the files' hashes alone depend on the
library that wrote them.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import orjson

from gateway.offline.dataset.content_hash import column_types
from gateway.offline.dataset.manifest_file import KIND
from gateway.offline.dataset.partitions import Part, TableLayout
from gateway.offline.merged_feedback import StoredFeedback
from gateway.offline.reader import Query
from gateway.records.prediction import Prediction
from gateway.records.time_range import format_time


class Counts:
    """Counts the predictions of an export. `malformed_feedback`: malformed feedback records, which are skipped;
    `flat_rows`: the rows of a flat one, None of another, in which each prediction is one.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.flat_rows: int | None = None
        self.malformed_feedback = 0
        self._malformed = 0
        self._fed_back = self._with_truth = self._conflicts = self._unreadable = 0
        self._first_ns = self._last_ns = 0
        self._outcomes: Counter[str] = Counter()
        self._variants: Counter[str] = Counter()
        self._versions: Counter[tuple[int, str]] = Counter()
        self._generations: Counter[int] = Counter()

    def add(self, prediction: Prediction, feedback: StoredFeedback, unreadable: bool) -> None:
        """Count one row."""
        self._first_ns = min(self._first_ns, prediction.time_ns) if self.rows else prediction.time_ns
        self._last_ns = max(self._last_ns, prediction.time_ns)
        self.rows += 1
        self._fed_back += feedback.count > 0
        self._with_truth += feedback.truth is not None
        self._conflicts += feedback.conflict
        self._unreadable += unreadable
        self._outcomes[prediction.outcome] += 1
        self._variants[prediction.variant] += 1
        self._versions[prediction.version, prediction.model_sha256 or ""] += 1
        self._generations[prediction.generation or 0] += 1

    def malformed(self) -> None:
        """Count a line that is not a valid prediction, or that cannot be written."""
        self._malformed += 1

    def document(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "rows": self.rows if self.flat_rows is None else self.flat_rows,
            "predictions": self.rows,
            "rows_with_feedback": self._fed_back,
            "rows_with_truth": self._with_truth,
            "label_conflicts": self._conflicts,
            "unreadable_rows": self._unreadable,
            "skipped_records": self._malformed,
            "skipped_feedback": self.malformed_feedback,
            "first": format_time(self._first_ns) if self.rows else None,
            "last": format_time(self._last_ns) if self.rows else None,
            "outcomes": dict(sorted(self._outcomes.items())),
            "variants": dict(sorted(self._variants.items())),
            "versions": [
                {"version": version, "sha256": sha256 or None, "rows": rows}
                for (version, sha256), rows in sorted(self._versions.items())
            ],
            "generations": {str(generation): rows for generation, rows in sorted(self._generations.items())},
        }


def manifest_of(
    query: Query, kind: str, layout: TableLayout, counts: Counts, parts: Iterable[Part], content_sha256: str
) -> bytes:
    """Return the content of the manifest."""
    document = {
        "kind": KIND,
        "model": query.model,
        "format": kind,
        "content_sha256": content_sha256,
        "query": {
            "since": _time(query.time_range.since_ns),
            "until": _time(query.time_range.until_ns),
            "feedback_until": _time(query.feedback_until_ns),
            "variant": query.variant,
            "with_feedback": query.with_feedback,
        },
        **counts.document(),
        "columns": column_types(layout.schema),
        **layout.described(),
        "files": [asdict(part) for part in parts],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _time(time_ns: int | None) -> str | None:
    return None if time_ns is None else format_time(time_ns)
