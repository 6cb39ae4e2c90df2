"""Says in words where a version comes from."""

from collections.abc import Iterator

from gateway.backends.provenance_documents import OriginDocument, ProvenanceDocument, TrainingDocument

HASH_SHOWN = 12  # characters: enough to tell data sets apart


def provenance_text(provenance: ProvenanceDocument) -> str:
    """One line on where a version comes from."""
    parts = list(_all_parts(provenance))
    return "; ".join(parts) or "nothing is said of where it comes from"


def _all_parts(provenance: ProvenanceDocument) -> Iterator[str]:
    if origin := provenance["origin"]:
        yield origin_text(origin)
    if training := provenance["training"]:
        yield from training_parts(training)
        yield from dataset_parts(training)
    yield from provenance["problems"]


def origin_text(origin: OriginDocument) -> str:
    """The registry, with the run that made the version."""
    named = [origin["registry"], origin["model"], origin["version"]]
    run = f", run {origin['run_id']}" if origin["run_id"] else ""
    link = f" ({origin['link']})" if origin["link"] else ""
    return f"from {' '.join(one for one in named if one) or 'a registry'}{run}{link}"


def training_parts(training: TrainingDocument) -> Iterator[str]:
    """How it was trained, and how well it does."""
    if training["estimator"]:
        yield training["estimator"]
    if training["held_out_accuracy"] is not None:
        rows = "" if training["held_out_rows"] is None else f"{training['held_out_rows']:,} "
        yield f"{training['held_out_accuracy']:.2%} of {rows}held-out rows right"
    if training["revision"]:
        yield f"code {training['revision']}"


def dataset_parts(training: TrainingDocument, shown: int = HASH_SHOWN) -> Iterator[str]:
    """What it was trained on; the first `shown` characters of each hash."""
    if training["data"] or training["data_sha256"]:
        rows = "" if training["train_rows"] is None else f", {training['train_rows']:,} rows"
        yield f"data {training['data'] or 'set'}{_hash(training['data_sha256'], shown)}{rows}"
    exported = training["dataset_content_sha256"] or training["dataset_manifest_sha256"]
    if exported or training["dataset_rows"] is not None:
        rows = "" if training["dataset_rows"] is None else f" of {training['dataset_rows']:,} rows"
        yield f"with an export{rows}{_hash(exported, shown)}"


def _hash(sha256: str | None, shown: int) -> str:
    return f" (sha256 {sha256[:shown]})" if sha256 else ""
