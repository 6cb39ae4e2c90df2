"""One host runs the controller of a model's release: it is named in the digest, which compare-and-set changes.

An old leader's write fails by itself, since the digest has changed with the take-over: no lock beside the data.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from gateway.control.fleet.evidence import Digest, Log, Release, host_of
from gateway.control.fleet.host import HostState, still
from gateway.control.fleet.timing import Timing

Mark = TypeVar("Mark")


class Written(Enum):
    """What has become of a digest whose write had no reply."""

    STORED = "stored"
    UNKNOWN = "unknown"  # it may be stored yet: only the same write again is safe
    LOST = "lost"  # another digest is there


def in_contact(host: HostState, now_ns: int) -> bool:
    """Whether the host is open under a lease, in a store to which all have brought what they knew."""
    return host.open and host.settled and now_ns < host.contact_until_ns


def is_gone(host: HostState, incarnation: str, now_ns: int, timing: Timing) -> bool:
    """Whether a member has left, or its beat stands still for longer than its lease."""
    if incarnation == host.incarnation:
        return False
    return incarnation not in host.members or still(host, incarnation, now_ns, timing)


def leads(host: HostState, digest: Digest | None) -> bool:
    """Whether the host is the leader as far as the digest says: only the store decides, when it writes."""
    return digest is not None and digest.leader == host.incarnation


def may_take_over(
    host: HostState,
    release: Release,
    settings: str,
    now_ns: int,
    timing: Timing,
    *,
    kept: Digest | None = None,
    silent: bool = False,
) -> bool:
    """Whether the host is to become the leader: there is none, or it is gone, or serves no candidate any more (then it
    has no log), or has written no digest for long (`silent`), or goes on from an older one than this host has `kept`,
    since the store has lost data. A host with other `settings` than the digest's does so only if no other host has
    these.
    """
    digest = release.digest
    if not in_contact(host, now_ns):
        return False
    if digest is None or (kept is not None and kept.version > digest.version):
        return True
    present = {host_of(name) for name in release.logs}
    if digest.leader == host.incarnation:
        return False
    if digest.leader in present and not silent and not is_gone(host, digest.leader, now_ns, timing):
        return False
    return settings == digest.settings or not _others_with(host, release.logs, digest.settings, now_ns, timing)


def _others_with(host: HostState, logs: Mapping[str, Log], settings: str, now_ns: int, timing: Timing) -> bool:
    return any(
        log.settings == settings
        and host_of(name) != host.incarnation
        and not is_gone(host, host_of(name), now_ns, timing)
        for name, log in logs.items()
    )


def became(written: Mark, before: Mark, stored: Mark) -> Written:
    """What has become of a write of the digest `written` in the place of `before`, now that `stored` is there. The
    digests are told apart by anything that is new with each, such as their tags in the store.
    """
    if stored == written:
        return Written.STORED
    return Written.UNKNOWN if stored == before else Written.LOST
