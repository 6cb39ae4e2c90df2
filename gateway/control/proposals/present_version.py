"""A version that others have put into the repository: is all of it there, and does it stay as it is while it is tried?

Nothing tells when a copy is complete. So a version is refused if a file is there under the name that a copying program
gives it until it is complete, and if any file has changed since before the version was tried. A half of a model does
not load; what is neither seen to change nor refused by the load is a copy that stands still with its files at their
full length.
"""

import re
from pathlib import Path
from typing import Any, Final

from gateway.backends.content_verdicts import ContentVerdicts
from gateway.backends.repository import Repository
from gateway.errors import Conflict, NotFound

# rsync's .NAME.XXXXXX and its folders for --delay-updates and --partial-dir; WinSCP, curl and browsers
_UNFINISHED: Final = re.compile(r"\..+\.[A-Za-z0-9]{6}|\.~tmp~|\.rsync-partial|.+\.(part|partial|filepart|crdownload)")


class PresentVersion:
    """Its files as they are when this is made. For a thread. Raises NotFound, and Conflict if it cannot be complete."""

    def __init__(self, repository: Repository, model: str, version: int) -> None:
        self._key = model, version
        self._contents = ContentVerdicts(repository.path)
        self._folder = repository.folder_of(model, version)
        if version not in (versions := repository.versions(model)):
            there = f"it has {', '.join(map(str, versions))}" if versions else "it has none"
            raise NotFound(
                f"there is no version {version} of '{model}' in {repository.path}: {there}; copy it to {self._folder},"
                " or propose its folder"
            )
        self._before = self._contents.fingerprint(self._key)
        if unfinished := next((name for name in self.files if _is_unfinished(name)), None):
            raise Conflict(
                f"{self._folder} is being copied: {unfinished} is a file that is not complete; try again once it is, or"
                " remove that file if nobody copies"
            )
        if reason := repository.unserved_reason(model, version):
            raise Conflict(reason)

    @property
    def files(self) -> list[str]:
        """The paths of its files, in its folder."""
        paths = (Path(path) for path, *_ in self._before)
        return [str(path.relative_to(self._folder)) for path in paths if path.is_relative_to(self._folder)]

    @property
    def total_bytes(self) -> int:
        """Their size."""
        return sum(size for path, _, size, _, _ in self._before if Path(path).is_relative_to(self._folder))

    def evidence(self, sha256: str) -> dict[str, Any]:
        """What the decision is to say of it. `sha256`: of the model as tried; empty if another server runs it."""
        return {"bytes": self.total_bytes, "files_in_all": len(self.files), "model_sha256": sha256}

    def refuse_changed(self) -> None:
        """Raise Conflict if a file is another than before. For a thread."""
        now = self._contents.fingerprint(self._key)
        if now != self._before:
            changed = min(path for path, *_ in {*now} ^ {*self._before})
            raise Conflict(
                f"{changed} has changed while version {self._key[1]} of '{self._key[0]}' was being tried; propose it"
                " again once it is copied"
            )


def _is_unfinished(name: str) -> bool:
    return any(_UNFINISHED.fullmatch(part) for part in Path(name).parts)
