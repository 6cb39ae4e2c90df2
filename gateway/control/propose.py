"""Proposes versions: from an uploaded archive to the candidate in the routing file, or nothing of it is left; or from a
folder that is in the repository already, which stays as it is whatever comes of it.

    hidden folder         written and synced as it arrives; the repository never serves it
    MODEL/N               the folder's new name, once it is complete
    load trial            in a process of its own, beside stable, as for every edit
    routing file          names N as the candidate, by the editor, which tries and applies it as any edit

Before each step the journal says how to undo it.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.backends.digest import is_same_model
from gateway.backends.not_served import MODEL_FILE
from gateway.backends.trial import LoadResult, LoadTrial, TrialProcess
from gateway.control.config.editor import Edit, EditResult, RoutingEditor
from gateway.control.config.mounted_memory import numbers_mounted
from gateway.control.config.named_versions import named_by
from gateway.control.config.yaml_candidate import name_candidate
from gateway.control.config.yaml_edit import refuse_other_release, set_stable
from gateway.control.control_plane import ControlPlane
from gateway.control.proposal import AcceptedProposal, Basis, Proposal, VersionRefused
from gateway.control.proposals.journal import ProposalJournal, VersionTaken, next_version
from gateway.control.proposals.present_version import PresentVersion
from gateway.control.proposals.staged_version import StagedVersion
from gateway.control.release.disk import DiskThread, DiskTimeout
from gateway.errors import Conflict, NotFound, NotReady, SettingsError
from gateway.settings.routing_file import routing_text
from gateway.settings.units import LARGEST_VERSION

DISK_TIMEOUT_S: Final = 60.0  # of one step; syncing some ten MiB takes seconds on a slow disk
ACTION, ACTION_STABLE = "propose", "follow"
RESUME: Final = "to bring it back, name candidate {version} in the routing file and resume it"
log: Final = logging.getLogger("gateway.control.proposals")


class Proposals:
    """One at a time. `ended`: whether the gateway is shutting down; called from any thread."""

    def __init__(self, control: ControlPlane, editor: RoutingEditor, ended: Callable[[], bool]) -> None:
        self._control = control
        self._editor = editor
        self._ended = ended
        self._journal = ProposalJournal(control.state)
        self._disk = DiskThread("proposals", DISK_TIMEOUT_S)
        self._staged: StagedVersion | None = None
        self._under_way = ""

    @property
    def under_way(self) -> bool:
        """Whether one is being made, so that another would be refused."""
        return bool(self._under_way)

    async def propose(self, ask: Proposal, archive: AsyncIterator[bytes] | None) -> AcceptedProposal:
        """Receive the version and make it the candidate; None: `ask.version` is in the repository already. Raises
        NotFound, Conflict, NotReady, InvalidRequest, BodyTooLarge, and the errors of `archive`; then nothing of what it
        brought is left. If the gateway ends meanwhile, its next start removes it.
        """
        if self._under_way:
            raise Conflict(
                f"a version of '{self._under_way}' is being proposed now, and one is at a time; try again after it"
            )
        self._under_way = ask.model
        try:
            return await self._undone_unless_accepted(ask, archive)
        except DiskTimeout as error:
            raise Conflict(f"the disk of the model repository does not answer: {error.strerror}") from None
        except OSError as error:
            cannot = "read" if archive is None else "written"
            raise Conflict(f"the version cannot be {cannot} in the model repository: {error}") from None
        finally:
            self._under_way = ""

    async def _undone_unless_accepted(self, ask: Proposal, archive: AsyncIterator[bytes] | None) -> AcceptedProposal:
        stops = ask.basis.stops if ask.basis is not None else self._stops_of(ask.model)
        stable, replaced = await self._check(ask, is_there=archive is None)
        if ask.basis not in (None, Basis(stable, replaced, self._stops_of(ask.model))):
            raise Conflict(f"the release of '{ask.model}' has changed since version {ask.version} was asked for")
        await self._disk.run(self._check_files, ask, stable, archive is None)
        await self._undo()  # what a killed proposal, or one on a disk that did not answer, has left
        found: StagedVersion | PresentVersion
        version = ask.version or 0
        try:
            if archive is not None:
                found = await self._receive(ask, archive)
                version = await self._place(ask)
            else:
                found = await self._disk.run(PresentVersion, self._control.repository, ask.model, version)
            await self._disk.run(self._refuse_stopped, ask, version)
            sha256 = await self._try(ask.model, version, stable, brought=archive is not None)
            if isinstance(found, PresentVersion):
                await self._disk.run(found.refuse_changed)
            if self._release(ask, stable) != (stable, replaced) or self._stops_of(ask.model) != stops:
                raise Conflict(f"the release of '{ask.model}' has changed while version {version} was being tried")
            self._refuse_unwanted(ask)
            edited = await self._name(ask, version, (stable, replaced), found.evidence(sha256))
        except Exception:
            await self._undo()
            raise
        try:
            await self._disk.run(self._journal.complete)
        except OSError as error:  # it is named, so neither the next proposal nor the next start undoes it
            log.error("the journal of proposals cannot be removed now: %s", error)
        return AcceptedProposal(
            version=version,
            stable=stable,
            replaced=replaced,
            files=len(found.files),
            total_bytes=found.total_bytes,
            edited=edited,
        )

    async def _check(self, ask: Proposal, *, is_there: bool) -> tuple[int, int | None]:
        """The stable version, and the candidate to be replaced. Raises NotFound, Conflict."""
        control, status = self._control, self._control.routing_file.status
        if status.error or status.candidates_closed:
            raise Conflict(f"the routing file is refused; fix it first: {status.error}")
        if ask.version is not None and control.decision_log.stopped(ask.model, ask.version) is not None:
            remedy = RESUME.format(version=ask.version) if is_there else "choose another number"
            raise Conflict(f"version {ask.version} of '{ask.model}' is stopped; {remedy}")
        if ask.model in control.served:
            if is_there and not ask.as_stable:
                self._refuse_in_force(ask)
            return self._release(ask)
        if not (versions := await self._disk.run(control.repository.versions, ask.model)):
            raise NotFound(
                f"there is no model '{ask.model}'; there are {', '.join(sorted(control.served))}; the first version of"
                f" a new model is put into {control.repository.path} by hand, with its model.yaml"
            )
        if not (others := [version for version in versions if version != ask.version]):
            raise Conflict(f"'{ask.model}' has no version but {ask.version}; name it stable in the routing file")
        return self._release(ask, others[-1])

    def _refuse_in_force(self, ask: Proposal) -> None:
        release = self._control.served[ask.model]
        if ask.version == release.stable:
            raise Conflict(f"version {ask.version} of '{ask.model}' is stable already")
        if ask.version == release.candidate:
            raise Conflict(
                f"version {ask.version} of '{ask.model}' is the candidate already; gateway weight gives it traffic"
            )

    def _release(self, ask: Proposal, highest: int = 0) -> tuple[int, int | None]:
        """The stable version, `highest` of a model that is not served yet, and the candidate to be replaced. Raises
        Conflict if it must not be.
        """
        release = self._control.served.get(ask.model)
        if release is None:
            return highest, None
        candidate = release.candidate
        under_way = candidate is not None and self._control.decision_log.stopped(ask.model, candidate) is None
        if under_way and not (ask.replace or ask.as_stable):
            raise Conflict(
                f"candidate {candidate} of '{ask.model}' is under way; stop or promote it first, or replace it with"
                " --replace"
            )
        return release.stable, candidate

    def _check_files(self, ask: Proposal, stable: int, is_there: bool) -> None:
        """Refuse early what the edit would refuse after the upload; for a thread."""
        path = self._control.routing_file.path
        if ask.version is not None and not is_there:
            named = named_by(path, self._control.served)((ask.model, ask.version))
            if named or os.path.lexists(self._folder(ask) / str(ask.version)):
                raise Conflict(self._taken(ask, ask.version))
        content = path.read_bytes()
        try:
            _, text = routing_text(content, self._source)
            self._named_text(ask, ask.version or LARGEST_VERSION, stable, text)
        except SettingsError as error:
            raise Conflict(str(error)) from None

    async def _receive(self, ask: Proposal, archive: AsyncIterator[bytes]) -> StagedVersion:
        staged = await self._disk.run(self._begin, ask)
        async for piece in archive:
            await self._disk.run(staged.write, piece)
        await self._disk.run(staged.finish)
        return staged

    def _begin(self, ask: Proposal) -> StagedVersion:
        self._staged = StagedVersion(self._journal.begin(self._folder(ask)), self._control.max_proposal)
        return self._staged

    async def _place(self, ask: Proposal) -> int:
        """Give the version its number. Raises Conflict."""
        taken = [version for model, version in self._control.decision_log.stopped_keys() if model == ask.model]
        if release := self._control.served.get(ask.model):  # even if somebody has removed their folders
            taken += [release.stable, release.candidate or 0]
        taken += await self._disk.run(numbers_mounted, self._control.state, ask.model)
        while True:
            if (version := ask.version) is None:
                version = await self._disk.run(next_version, self._folder(ask), taken)
            if version > LARGEST_VERSION:
                raise Conflict(f"no number is free after {LARGEST_VERSION}; choose one with --version")
            try:
                await self._disk.run(self._journal.place, version)
            except VersionTaken:
                if ask.version is not None:
                    raise Conflict(self._taken(ask, version)) from None
                continue
            return version

    def _refuse_stopped(self, ask: Proposal, version: int) -> None:
        """A stop is for the number, but whoever stopped a version does not want its model back under another one."""
        folder, log = self._folder(ask), self._control.decision_log
        for model, number in sorted(log.stopped_keys()):
            decision = log.stopped(model, number)
            if model != ask.model or number == version or decision is None:
                continue
            if is_same_model(folder / str(version) / MODEL_FILE, folder / str(number) / MODEL_FILE):
                raise VersionRefused(
                    f"it is the model of version {number}, which {decision.by} has stopped"
                    f"{f': {decision.reason}' if decision.reason else ''}; {RESUME.format(version=number)}"
                )

    async def _try(self, model: str, version: int, stable: int, *, brought: bool) -> str:
        """Load and warm up the version, and compare it with stable, as every edit does. Returns its digest. Raises
        VersionRefused and NotReady. `brought`: it was not in the repository before.
        """
        trial = LoadTrial(model, version, stable)
        process = TrialProcess(self._control.repository.path)  # its own: an edit must not wait for this
        results = await asyncio.to_thread(self._run_trial, process, trial)
        if process.cancel_reason:
            raise NotReady(process.cancel_reason)
        if results[0].error:
            removed = ", and removed again" if brought else ""
            raise VersionRefused(f"version {version} of '{model}' is refused{removed}: {results[0].error}")
        return results[0].sha256

    def _run_trial(self, process: TrialProcess, trial: LoadTrial) -> list[LoadResult]:
        timeout_s = self._control.routing_file.trial_runner.timeout_s
        return list(process.try_versions([trial], timeout_s, lambda: "the gateway ends" if self._ended() else ""))

    async def _name(
        self, ask: Proposal, version: int, before: tuple[int, int | None], found: dict[str, Any]
    ) -> EditResult:
        """Make the edit. `before`: the versions in force, stable and candidate. `found`: what there is to say of it."""
        evidence = ask.evidence | {"version": version, "stable": before[0], "replaced": before[1]} | found
        edit = Edit(
            model=ask.model,
            candidate=version,
            action=ACTION_STABLE if ask.as_stable else ACTION,
            make=partial(self._named_instead, ask, version, before),
            by=ask.by,
            reason=ask.reason,
            evidence=evidence,
        )
        with self._control.command_priority.command():
            return await self._editor.apply(edit, dry_run=False)

    def _named_text(self, ask: Proposal, version: int, stable: int, text: str) -> str:
        if ask.as_stable:
            return set_stable(text, ask.model, version, self._source)
        return name_candidate(text, ask.model, stable=stable, candidate=version, weight=ask.weight, source=self._source)

    def _named_instead(self, ask: Proposal, version: int, before: tuple[int, int | None], text: str) -> str:
        self._refuse_unwanted(ask)
        refuse_other_release(text, ask.model, stable=before[0], candidate=before[1], source=self._source)
        return self._named_text(ask, version, before[0], text)

    async def _undo(self) -> None:
        try:
            await self._disk.run(self._undo_on_disk)
        except OSError as error:  # the journal keeps it for the next proposal, or the next start
            log.error("what is left of a proposal cannot be removed now: %s", error)

    def _undo_on_disk(self) -> None:
        if self._staged is not None:
            self._staged.close()
        self._journal.undo(named_by(self._control.routing_file.path, self._control.served))

    def _stops_of(self, model: str) -> int:
        """The number of stops of the model's candidates so far: one made meanwhile is meant for this one, too."""
        return self._control.decision_log.counts[model, "stop"]

    def _refuse_unwanted(self, ask: Proposal) -> None:
        if why := ask.unwanted():
            raise Conflict(why)

    def _taken(self, ask: Proposal, version: int) -> str:
        return f"version {version} of '{ask.model}' is there already; leave --version out to get the next free number"

    def _folder(self, ask: Proposal) -> Path:
        return self._control.repository.path / ask.model

    @property
    def _source(self) -> str:
        return str(self._control.routing_file.path)
