"""Follows a prediction id: its record, the feedback on it, and the versions that had to do with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.offline.feedback_store import is_sound
from gateway.offline.merged_feedback import Contradiction, label_of, row_of_feedback
from gateway.offline.reader import OnProgress, Records
from gateway.offline.trace.version import Role, TracedVersion, VersionTracer
from gateway.records.lookup import find, find_all, oldest_ns
from gateway.records.prediction import Prediction, prediction_of
from gateway.records.sampling import SHARE_RESOLUTION, sample_share
from gateway.records.segments import MAX_DISORDER_NS
from gateway.records.time_range import format_time
from gateway.records.token import Signer, Token, unverified
from gateway.records.token_keys import keys_file

MAX_FEEDBACK: Final = 100  # entries that are kept; all are counted
RECENT_NS: Final = 5_000_000_000  # a record is on its way to the disk for less than that


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What decides which records there are. `state`: the folder with the records and the keys; `sample`: a share;
    `retain_bytes`: of records. `in_fleet`: other hosts hold records of their own. `if_elsewhere`: what to do if the
    records looked through are not those of the gateway that made the id.
    """

    state: Path
    sample: float
    retain_bytes: int
    in_fleet: bool
    if_elsewhere: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The candidate's answer to a copy of the request. `agreement`: with the answer that was sent; None: unknown."""

    version: int
    sha256: str | None
    time_ns: int
    agreement: bool | None
    predicted: int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What is known of a prediction. `token`: what the id says of it; `signature`: why that cannot be relied upon, ""
    if the id is one of this gateway's.

    `prediction`: its record, None if there is none; then `missing` says why. `feedback`: the records of the first
    MAX_FEEDBACK entries, of `feedback_count`; `contradicting`: their truths are not the same.
    """

    prediction_id: str
    token: Token
    signature: str
    prediction: Prediction | None
    missing: str
    feedback: Sequence[dict[str, Any]]
    feedback_count: int
    contradicting: bool
    mirror: Mirror | None
    versions: Sequence[TracedVersion]


@dataclass(frozen=True, slots=True)
class Meters:
    """Progress callbacks, called with bytes read of each stream."""

    predictions: OnProgress
    mirrors: OnProgress
    feedback: OnProgress


class Tracer:
    """Traces ids through a snapshot of the records. `signer`: None if this gateway has no keys; `now_ns`: the time."""

    def __init__(
        self,
        records: Records,
        versions: VersionTracer,
        signer: Signer | None,
        settings: Settings,
        now_ns: Callable[[], int],
    ) -> None:
        self._records = records
        self._versions = versions
        self._signer = signer
        self._settings = settings
        self._now_ns = now_ns

    def trace(self, prediction_id: str, meters: Meters) -> Trace:
        """Follow an id. Raises InvalidRequest if it is none, or has been forged; a forged one has no record."""
        token = unverified(prediction_id)
        signature = self._signature_problem(prediction_id)
        record = find(self._records.predictions, prediction_id, token.time_ns, meters.predictions)
        prediction = None if record is None else prediction_of(record)
        if prediction is None and signature:
            raise InvalidRequest(f"{signature}; {self._looked()}")
        since_ns = token.time_ns - MAX_DISORDER_NS
        mirror = _mirror(find(self._records.mirrors, prediction_id, token.time_ns, meters.mirrors))
        entries = find_all(self._records.feedback, prediction_id, since_ns, meters.feedback)
        feedback, count, contradiction = list[dict[str, Any]](), 0, Contradiction()
        for one in filter(is_sound, entries):
            count += 1
            if len(feedback) < MAX_FEEDBACK:
                feedback.append(one)
            if (label := label_of(one)) is not None:
                contradiction.add(label, row_of_feedback(one))
        return Trace(
            prediction_id=prediction_id,
            token=token,
            signature=signature,
            prediction=prediction,
            missing="" if prediction else self._missing(token),
            feedback=feedback,
            feedback_count=count,
            contradicting=contradiction.found,
            mirror=mirror,
            versions=self._traced(token, prediction, mirror),
        )

    def _signature_problem(self, prediction_id: str) -> str:
        if self._signer is None:
            return f"there is no {keys_file(self._settings.state)}, so nobody can tell whether this gateway made the id"
        try:
            self._signer.read(prediction_id)
        except InvalidRequest as error:
            return str(error)
        return ""

    def _traced(self, token: Token, prediction: Prediction | None, mirror: Mirror | None) -> list[TracedVersion]:
        if prediction is None:
            return [self._versions.trace(Role.ANSWERED, token.model, token.version, None, recorded=False)]
        model = prediction.model
        found = [self._versions.trace(Role.ANSWERED, model, prediction.version, prediction.model_sha256)]
        if prediction.rescued_from is not None:
            found.append(self._versions.trace(Role.FAILED, model, prediction.rescued_from, None, recorded=False))
        if mirror is not None:
            found.append(self._versions.trace(Role.MIRRORED, model, mirror.version, mirror.sha256))
        return found

    def _missing(self, token: Token) -> str:
        """Why a prediction whose id is genuine has no record here, and what to do."""
        settings, made = self._settings, format_time(token.time_ns)
        oldest = oldest_ns(self._records.predictions)
        elsewhere = "; another host of the fleet may have it: ask there" if settings.in_fleet else ""
        if oldest is not None and token.time_ns < oldest:
            return (
                f"its record has been deleted: it is of {made}, and the oldest that is kept of {format_time(oldest)}"
                f" (records.retain is {settings.retain_bytes / 2**30:.3g} GiB); keep more, or ship sealed segments"
                f" elsewhere{elsewhere}"
            )
        if sample_share(token.nonce) >= round(settings.sample * SHARE_RESOLUTION):
            return (
                f"it was not recorded: records.sample is {settings.sample:.4%}, and it is not in this sample{elsewhere}"
            )
        if self._now_ns() - token.time_ns < RECENT_NS:
            return "its record is not on disk yet: try again in a few seconds"
        if oldest is None:
            return f"this gateway holds no records of predictions{elsewhere}; {self._looked()}"
        return (
            "it has no record here: it was made by another gateway that shares the keys, or was dropped"
            f" (gateway_records_dropped_total says how many were){elsewhere}"
        )

    def _looked(self) -> str:
        return f"it was looked for in {self._settings.state.absolute()}: {self._settings.if_elsewhere}"


def _mirror(record: dict[str, Any] | None) -> Mirror | None:
    if record is None or type(record.get("version")) is not int:
        return None
    sha256, agreement, predicted = record.get("model_sha256"), record.get("agreement"), record.get("predicted")
    return Mirror(
        version=record["version"],
        sha256=sha256 if type(sha256) is str else None,
        time_ns=record["time_ns"],
        agreement=agreement if type(agreement) is bool else None,
        predicted=predicted if type(predicted) in (int, float) else None,
    )
