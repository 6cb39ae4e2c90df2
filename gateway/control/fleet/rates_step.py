"""One host's next share of each rate limit, from the records of all hosts, as a pure function.

The sum of what hosts reserve in their records never exceeds a limit: a reservation grows only into what the others
leave free, in a transaction that fails if any has grown since. In force on a host is at most what it reserves: a share
falls here first and then in the record, where it stays as high as the requests of the last window, and rises in the
record first.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from gateway.control.fleet.rates_split import equal_parts, split, steady
from gateway.control.fleet.rates_state import MILLION, MOST, Entry, RateRecord, base_share, limit_of

HOT: Final = (4, 3)  # a quota is moved by demand once 4 times the demand is beyond 3 times the base
COOL: Final = (2, 1)  # and no longer below half of it


NO_SHARES: Final[Mapping[str, int]] = {}


class Used(NamedTuple):
    """Of a quota, here: requests admitted in the last window, and what there is demand for."""

    admitted: int
    demand: int


class Held(NamedTuple):
    """What is in force here."""

    base_ppm: int = 0
    shares: Mapping[str, int] = NO_SHARES

    def share(self, key: str) -> int:
        """Of a quota."""
        share = self.shares.get(key)
        return base_share(key, self.base_ppm) if share is None else share


class Seen(NamedTuple):
    """What a step is computed from. `records`: of all hosts. `moving`: the other hosts in contact, whose shares move.

    `may_grow`: false in a new life of the store. `base_in_use`: no request of the last window was admitted under a
    larger base. `hot`: quotas with much demand here, most first. `used`: None of a quota that this host does not have,
    since its settings differ: its share of that does not move.
    """

    me: str
    name: str
    records: Mapping[str, RateRecord]
    moving: frozenset[str]
    may_grow: bool
    base_in_use: bool
    held: Held
    hot: tuple[str, ...]
    used: Callable[[str], Used | None]

    @property
    def mine(self) -> RateRecord:
        return self.records.get(self.me, RateRecord())

    @property
    def others(self) -> dict[str, RateRecord]:
        return {host: record for host, record in self.records.items() if host != self.me}


class Step(NamedTuple):
    """`now`: to be put into force before the record is written. `record`: to be written, unless it is the old one.

    `grows`: only if no other host has grown meanwhile. `then`: to be put into force once it is written.
    """

    now: Held
    record: RateRecord
    grows: bool
    then: Held


class Move(NamedTuple):
    """Of one quota or the base: in force now, reserved, in force then."""

    now: int
    reserved: int
    then: int


def next_step(seen: Seen) -> Step:
    """The next step. Nothing that is in force without a reservation stays so once the store is settled."""
    mine, others = seen.mine, seen.others
    base = _base(seen, mine, others)
    keys = _keys(seen, mine, others, all_of_them=base.reserved > mine.base_ppm)
    now, then, entries = dict(seen.held.shares), {}, {}
    for key in keys:
        used = seen.used(key)
        demand = steady(mine.entries[key].demand if key in mine.entries else 0, used.demand) if used else 0
        hot = _hot(key, mine.base_ppm, demand, seen, others) if used else False
        target = _target(key, demand, base.reserved, seen, others, hot=hot)
        free = limit_of(key) - sum(other.share(key) for other in others.values())
        move = _moved(seen, target, seen.held.share(key), mine.share(key), free, used.admitted if used else 0)
        now[key] = move.now
        if hot is not False or not _is_base(key, move, base):
            then[key], entries[key] = move.then, Entry(move.reserved, demand)
    record = RateRecord(mine.turn, seen.name, base.reserved, entries)
    grows = seen.me not in seen.records or base.reserved > mine.base_ppm
    grows = grows or any(record.share(key) > mine.share(key) for key in keys)
    if record != mine or seen.me not in seen.records:
        record = record._replace(turn=mine.turn + 1)
    return Step(Held(base.now, now), record, grows, Held(base.then, then))


def _base(seen: Seen, mine: RateRecord, others: Mapping[str, RateRecord]) -> Move:
    moving = sorted({*(seen.moving & others.keys()), seen.me})
    fixed = sum(record.base_ppm for host, record in others.items() if host not in seen.moving)
    target = equal_parts(max(0, MILLION - fixed), len(moving))[moving.index(seen.me)]
    taken = sum(record.base_ppm for record in others.values())
    floor = 0 if seen.base_in_use and seen.held.base_ppm <= target else mine.base_ppm
    return _moved(seen, target, seen.held.base_ppm, mine.base_ppm, MILLION - taken, floor)


def _target(
    key: str, demand: int, base_ppm: int, seen: Seen, others: Mapping[str, RateRecord], *, hot: bool | None
) -> int:
    demands = {host: others[host].entries[key].demand for host in others if _moves(seen, others, host, key)}
    fixed = sum(record.share(key) for host, record in others.items() if host not in demands)
    available = max(0, limit_of(key) - fixed)
    if hot is False:
        return min(base_share(key, base_ppm), available)
    return split(available, demands | {seen.me: demand})[seen.me]


def _moves(seen: Seen, others: Mapping[str, RateRecord], host: str, key: str) -> bool:
    """Whether the other host's share follows the demand: not if it is out of contact, or does not name the quota."""
    return host in seen.moving and key in others[host].entries


def _moved(seen: Seen, target: int, held: int, reserved: int, free: int, floor: int) -> Move:
    """`free`: what the other hosts leave. `floor`: below which the reservation does not fall yet."""
    if not seen.may_grow:
        target = min(target, held)
    after = min(target, max(reserved, free)) if target >= reserved else min(reserved, max(target, floor))
    now = min(held, target, reserved) if seen.may_grow else min(held, target)
    return Move(now, after, min(target, after))


def _is_base(key: str, move: Move, base: Move) -> bool:
    share = base_share(key, base.reserved)
    return move.then == move.reserved == share and base.then == base.reserved


def _hot(key: str, base_ppm: int, demand: int, seen: Seen, others: Mapping[str, RateRecord]) -> bool | None:
    """Whether shares of the quota follow demand; None: as they do already, since it is neither high nor low."""
    asked = [(demand, base_share(key, base_ppm))]
    asked += [
        (others[host].entries[key].demand, base_share(key, others[host].base_ppm))
        for host in seen.moving & others.keys()
        if key in others[host].entries
    ]
    if any(HOT[0] * one > HOT[1] * base for one, base in asked):
        return True
    return None if any(COOL[0] * one > COOL[1] * base for one, base in asked) else False


def _keys(seen: Seen, mine: RateRecord, others: Mapping[str, RateRecord], *, all_of_them: bool) -> list[str]:
    """The quotas to be named: those named already; as long as they are few, those with demand here and those that
    others want more of; and all that others name, so that a larger base grows into none of them.
    """
    keys = dict.fromkeys([*mine.entries, *seen.held.shares])
    more = dict.fromkeys([*seen.hot, *_wanted_elsewhere(seen, others)])
    keys |= dict.fromkeys([key for key in more if key not in keys][: max(0, MOST - len(keys))])
    if all_of_them:
        keys |= dict.fromkeys(key for record in others.values() for key in record.entries)
    return list(keys)


def _wanted_elsewhere(seen: Seen, others: Mapping[str, RateRecord]) -> Iterable[str]:
    for host in seen.moving & others.keys():
        record = others[host]
        for key, entry in record.entries.items():
            if HOT[0] * entry.demand > HOT[1] * base_share(key, record.base_ppm) and seen.used(key) is not None:
                yield key
