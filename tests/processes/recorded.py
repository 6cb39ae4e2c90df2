"""What a gateway has recorded, compared with the answers that a client got."""

from pathlib import Path
from typing import Any

import orjson

from gateway.records.segments import FEEDBACK, PREDICTIONS, segments
from loadtests.recorded import Told


def records(folder: Path, stream: str = PREDICTIONS) -> list[dict[str, Any]]:
    """The lines of a stream of the gateway in `folder`; a torn line anywhere is an error."""
    found = []
    for path in segments(folder / "state" / "records", stream):
        content = path.read_bytes()
        assert not content or content.endswith(b"\n"), f"{path.name} ends within a line"
        found += [orjson.loads(line) for line in content.splitlines()]
    return found


def feedback(folder: Path) -> list[dict[str, Any]]:
    return records(folder, FEEDBACK)


def assert_all_are_recorded_once(folder: Path, told: Told) -> None:
    """Every prediction whose answer the client got. Others may be recorded too: their workers died before sending."""
    ids = [record["prediction_id"] for record in records(folder)]
    assert len(ids) == len(set(ids)), "a prediction is recorded twice"
    assert len(told.ids) == len(set(told.ids)), "an id was given twice"
    missing = set(told.ids) - set(ids)
    assert not missing, f"{len(missing)} of {len(told.ids)} predictions are not recorded"
