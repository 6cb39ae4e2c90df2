"""What the state folder holds of the run before counts before mounted models do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.backends.digest import digest_of
from gateway.control.config.startup import StartupState, open_state
from gateway.control.proposals.journal import ProposalJournal
from gateway.records.trips import Trip, save_trip
from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import load_routing
from gateway.shm.claim import claim
from tests.control.config.test_mounted_models import ONE, TWO, mounted, propose, started


@contextmanager
def opened(settings: GatewaySettings) -> Iterator[StartupState]:
    memory = claim(Path(settings.state))
    try:
        state = open_state(settings, memory)
        state.decision_log.close()
        yield state
    finally:
        memory.close()


def test_interrupted_proposal_leaves_its_number_to_a_mounted_version(tmp_path: Path) -> None:
    started(mounted(tmp_path, model=ONE))
    journal = ProposalJournal(tmp_path / "state")
    staged = journal.begin(tmp_path / "state/models/digits")
    staged.mkdir()
    shutil.copy(TWO, staged / "model.onnx")
    journal.place(2)
    with opened(mounted(tmp_path, **{"1__model": ONE, "2__model": ONE})) as state:
        assert digest_of(state.repository.model_file("digits", 2)) == digest_of(ONE)


def test_version_that_a_worker_has_stopped_while_control_was_dead_does_not_become_stable(tmp_path: Path) -> None:
    started(mounted(tmp_path, model=ONE))
    settings = mounted(tmp_path, **{"2__model": ONE, "3__model": TWO})
    save_trip(tmp_path / "state", Trip("digits", 3, 0, "it fails"), lambda: True).join()
    with opened(settings) as state:
        assert load_routing(state.routing_file.path).models["digits"].stable == 2


def test_gateway_without_mounted_models_links_and_writes_nothing(tmp_path: Path) -> None:
    settings = mounted(tmp_path, model=ONE)
    propose(tmp_path, 1, TWO)
    Path(settings.routing).write_text("models: {digits: {stable: 1}}")
    models = settings.models.model_copy(update={"mounted": None})
    with opened(settings.model_copy(update={"models": models})) as state:
        assert state.resolved.routing.models["digits"].stable == 1
    assert not (tmp_path / "state/mounted.json").exists()
