"""The documents of where versions come from, read again after a while."""

import json
from pathlib import Path

from gateway.backends.provenance import Provenance
from gateway.backends.repository import Repository
from gateway.cli.provenance_text import provenance_text
from gateway.control.api.provenance_rendering import REFRESH_S, ProvenanceCache, provenance_document


def written(folder: Path, accuracy: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    training = {"data": "orders", "data_sha256": "ab" * 32, "train_rows": 1200, "held_out_accuracy": accuracy}
    (folder / "training.json").write_text(json.dumps(training))
    origin = {"registry": "mlflow", "url": "http://mlflow:5000", "model": "m", "version": "7", "run_id": "r1"}
    (folder / "origin.json").write_text(json.dumps(origin))


def test_provenance_is_read_again_once_it_is_old(tmp_path: Path) -> None:
    now_s = [100.0]
    cache = ProvenanceCache(Repository(tmp_path), lambda: now_s[0])
    assert not cache.of("m", 1).known
    written(tmp_path / "m" / "1", 0.5)
    now_s[0] += REFRESH_S - 1
    assert not cache.of("m", 1).known
    now_s[0] += 1
    training = cache.of("m", 1).training
    assert training is not None and training.held_out_accuracy == 0.5
    written(tmp_path / "m" / "1", 0.75)
    assert cache.of("m", 1).training == training
    now_s[0] += REFRESH_S
    read = cache.of("m", 1).training
    assert read is not None and read.held_out_accuracy == 0.75


def test_the_text_says_what_is_known(tmp_path: Path) -> None:
    written(tmp_path / "m" / "1", 0.5)
    document = provenance_document(ProvenanceCache(Repository(tmp_path)).of("m", 1))
    assert document["origin"] is not None
    assert document["origin"]["link"] == "http://mlflow:5000/#/models/m/versions/7"
    assert provenance_text(document) == (
        "from mlflow m 7, run r1 (http://mlflow:5000/#/models/m/versions/7); 50.00% of held-out rows right;"
        " data orders (sha256 abababababab), 1,200 rows"
    )
    nothing = provenance_document(Provenance())
    assert (nothing["training"], nothing["origin"], nothing["problems"]) == (None, None, [])
    assert provenance_text(nothing) == "nothing is said of where it comes from"
