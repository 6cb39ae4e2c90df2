"""Detects a routing file that is a truncated copy of the one in force, and whether it would give a candidate more
traffic.

A truncated file is surprisingly often valid YAML: without the last routes, but also without a route's `match` or
`while`, without guards, with `prefix: e` for `prefix: eu-` or `interval: 1` for `interval: 10m`. A truncation that can
only take traffic away from a candidate is accepted: deleting the end of a file is an edit too.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from gateway.settings.routing import ReleaseSettings, RouteSettings, RoutingSettings, SplitSettings

_REMEDY = "the file seems truncated: it is the beginning of the one in force; if intended, end it with a comment line"


def is_truncated(before: bytes, after: bytes) -> bool:
    """Whether `after` is a proper prefix of `before`, trailing white space aside."""
    kept = after.rstrip()
    return len(kept) < len(before.rstrip()) and before.startswith(kept)


def truncation_problems(
    before: RoutingSettings, after: RoutingSettings, stopped: AbstractSet[tuple[str, int]]
) -> Iterator[str]:
    """The inadmissible effects of a truncation, one message each, by path in the file."""
    for name, new in after.models.items():
        old = before.models.get(name)
        if old is None:  # an entry that merges another (`<<`) may have lost the rest of its text
            if new.candidate is not None:
                yield f"models.{name}: candidate {new.candidate} is new; {_REMEDY}"
        elif new.stable != old.stable and (name, new.stable) in stopped:
            yield f"models.{name}: stable {old.stable} -> {new.stable}, which is stopped as a candidate; {_REMEDY}"
        elif not str(old.stable).startswith(str(new.stable)):
            yield f"models.{name}: stable {old.stable} -> {new.stable}, which is not a truncated number; {_REMEDY}"
        elif new.candidate is not None and not is_narrower(old, new):
            yield f"models.{name}: its candidate would get other requests or lose its guards; {_REMEDY}"


def is_narrower(old: ReleaseSettings, new: ReleaseSettings) -> bool:
    """Whether the same candidate receives, under the same guards, only requests that it received before."""
    same = {"stable": new.stable, "split": new.split}
    if old.model_copy(update=same) != new:
        return False
    was, now = old.split or SplitSettings(), new.split or SplitSettings()
    if not now.routes:
        return True
    if (was.salt, was.stickiness) != (now.salt, now.stickiness) or len(now.routes) > len(was.routes):
        return False
    return all(_lighter(a, b) for a, b in zip(was.routes, now.routes, strict=False))


def _lighter(old: RouteSettings, new: RouteSettings) -> bool:
    if old.model_copy(update={"weight": new.weight}) != new:
        return False
    both = isinstance(old.weight, int) and isinstance(new.weight, int)
    return old.weight == new.weight or (both and int(new.weight) <= int(old.weight))
