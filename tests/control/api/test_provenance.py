"""The documents of where versions come from, read again after a while."""

import json
import threading
from pathlib import Path
from queue import SimpleQueue

from gateway.backends.provenance import Provenance, read_provenance
from gateway.backends.provenance_documents import provenance_document
from gateway.backends.repository import Repository
from gateway.cli.provenance_text import provenance_text
from gateway.control.api.provenance_rendering import REFRESH_S, ProvenanceCache


def written(folder: Path, accuracy: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    training = {"data": "orders", "data_sha256": "ab" * 32, "train_rows": 1200, "held_out_accuracy": accuracy}
    (folder / "training.json").write_text(json.dumps(training))
    origin = {"registry": "mlflow", "url": "http://mlflow:5000", "model": "m", "version": "7", "run_id": "r1"}
    (folder / "origin.json").write_text(json.dumps(origin))


def changed(cache: ProvenanceCache, version: int, before: Provenance) -> Provenance:
    """What is known of a version once the thread has read it again."""
    while (found := cache.of("m", version)) == before:
        pass
    return found


def accuracy(provenance: Provenance) -> float | None:
    return None if provenance.training is None else provenance.training.held_out_accuracy


def test_provenance_is_read_again_once_it_is_old(tmp_path: Path) -> None:
    now_s, was_read = [100.0], SimpleQueue[Provenance]()

    def read(folder: Path) -> Provenance:
        was_read.put(found := read_provenance(folder))
        return found

    cache = ProvenanceCache(Repository(tmp_path), clock=lambda: now_s[0], read=read)
    cache.of("m", 1)
    assert was_read.get() == Provenance()
    written(tmp_path / "m" / "1", 0.5)
    now_s[0] += REFRESH_S - 1
    assert cache.of("m", 1) == Provenance()
    now_s[0] += 1
    known = changed(cache, 1, Provenance())
    assert accuracy(known) == 0.5
    written(tmp_path / "m" / "1", 0.75)
    assert cache.of("m", 1) == known
    now_s[0] += REFRESH_S
    assert accuracy(changed(cache, 1, known)) == 0.75
    assert was_read.qsize() == 2


def test_no_page_waits_for_a_disk_that_hangs(tmp_path: Path) -> None:
    now_s, hangs, asked = [100.0], threading.Event(), list[str]()

    def read(folder: Path) -> Provenance:
        asked.append(folder.name)
        if folder.name == "2":
            hangs.wait()
        return read_provenance(folder)

    for version in (1, 2, 3):
        written(tmp_path / "m" / str(version), 0.5)
    cache = ProvenanceCache(Repository(tmp_path), clock=lambda: now_s[0], read=read)
    known = changed(cache, 1, Provenance())
    now_s[0] += REFRESH_S
    for _ in range(3):
        assert (cache.of("m", 2), cache.of("m", 3), cache.of("m", 1)) == (Provenance(), Provenance(), known)
        now_s[0] += REFRESH_S
    hangs.set()
    assert [changed(cache, version, Provenance()) for version in (2, 3)] == [known, known]
    assert asked[:3] == ["1", "2", "3"]  # each is asked for once, however often a page shows it


def test_the_text_says_what_is_known(tmp_path: Path) -> None:
    written(tmp_path / "m" / "1", 0.5)
    document = provenance_document(read_provenance(tmp_path / "m" / "1"))
    assert document["origin"] is not None
    assert document["origin"]["link"] == "http://mlflow:5000/#/models/m/versions/7"
    assert provenance_text(document) == (
        "from mlflow m 7, run r1 (http://mlflow:5000/#/models/m/versions/7); 50.00% of held-out rows right;"
        " data orders (sha256 abababababab), 1,200 rows"
    )
    nothing = provenance_document(Provenance())
    assert (nothing["training"], nothing["origin"], nothing["problems"]) == (None, None, [])
    assert provenance_text(nothing) == "nothing is said of where it comes from"
