"""How much of each rate limit is used on this host, read from the workers' counters; and puts shares into force."""

from collections.abc import Sequence
from functools import reduce
from typing import Final

import mmh3
import numpy as np
import numpy.typing as npt

from gateway.auth.fleet_rate_limit import is_counted, quotas_of
from gateway.control.fleet.rates_state import MILLION, MOST, quota_key
from gateway.control.fleet.rates_step import HOT, Held, Used
from gateway.settings.gateway import RateSettings
from gateway.shm.rate_counters import COUNT, COUNT_BITS, WINDOW, RateCounters
from gateway.shm.rate_shares import RateShares

NEWCOMER: Final = 10  # without ever having had contact a host takes this part of each limit: a tenth
FADES: Final = 3  # times in a window, refusals are forgotten to the e-th part
MANY_COLUMNS: Final = 32  # then numpy is faster row by row
Words = npt.NDArray[np.int64]


class RateUsage:
    """Of all quotas of this host. `measure` is called regularly; `used` says what it has found."""

    def __init__(self, settings: RateSettings, counters: RateCounters, shares: RateShares) -> None:
        quotas = quotas_of(settings)
        self._shares = shares
        self._limits = np.array([quota.limit for quota in quotas], np.int64)
        self._windows_ns = np.array([quota.window_ns for quota in quotas], np.int64)
        self._words = counters.table[: len(quotas)]
        self._counted = np.array([is_counted(quota) for quota in quotas])
        self._keys = [
            quota_key(name, quota.limit, quota.window_ns)
            for name, quota in zip(_names(settings, len(quotas)), quotas, strict=True)
        ]
        self._places = {key: place for place, key in enumerate(self._keys)}
        self._admitted = np.zeros(len(quotas))
        self._refused = np.zeros(len(quotas))  # in a window, at the present rate
        self._refused_before = shares.refused()
        self._measured_ns = 0

    def measure(self, now_ns: int) -> None:
        """Look at the counters. `now_ns`: on the workers' clock."""
        windows = now_ns // self._windows_ns
        active = np.flatnonzero(_latest(self._words) > (windows - 1) << COUNT_BITS)
        self._admitted[:] = 0.0
        if len(active):
            self._admitted[active] = self._admitted_at(active, windows[active], now_ns)
        self._fade_refused(now_ns)

    def used(self, key: str) -> Used | None:
        """Of a quota; None if it is not this host's."""
        place = self._places.get(key)
        if place is None:
            return None
        admitted = int(self._admitted[place])  # at a limit, the counters are up to one request beyond it
        return Used(admitted, admitted + round(self._refused[place]))

    def hot(self, held: Held) -> tuple[str, ...]:
        """The quotas with much demand for their base, most first, as many as a record may name."""
        demand = self._admitted + self._refused
        much = np.flatnonzero(HOT[0] * demand > HOT[1] * (self._limits * held.base_ppm // MILLION))
        much = much[demand[much] >= 1]
        most = much[np.argsort(-demand[much], kind="stable")][:MOST]
        return tuple(self._keys[place] for place in most)

    def key(self, place: int) -> str:
        """The key of the quota at a place."""
        return self._keys[place]

    def put(self, held: Held, *, counting: bool = False) -> None:
        """Put shares into force. `counting`: the store counts small limits, whose shares are for when it is silent."""
        shares = self._limits * held.base_ppm // MILLION
        for key, share in held.shares.items():
            if (place := self._places.get(key)) is not None:
                shares[place] = share
        self._shares.put(np.where(self._counted, -1 - shares, shares) if counting else shares)

    def put_newcomers(self) -> None:
        """Put a tenth of each limit into force."""
        self._shares.put(self._limits // NEWCOMER)

    def _admitted_at(self, places: Words, windows: Words, now_ns: int) -> npt.NDArray[np.float64]:
        """What the workers count: this window's requests, and of the one before the part that is not over."""
        offsets = self._words[places] - (windows << COUNT_BITS)[:, None]
        now = np.where((offsets > 0) & (offsets <= COUNT), offsets, 0).sum(axis=1)
        before = np.where((offsets < 0) & (offsets > -WINDOW), offsets + WINDOW, 0).sum(axis=1)
        window_ns = self._windows_ns[places]
        left = 1 - (now_ns - windows * window_ns) / window_ns
        return np.asarray(now + before * left, np.float64)

    def _fade_refused(self, now_ns: int) -> None:
        refused, passed_ns = self._shares.refused(), now_ns - self._measured_ns
        new, self._refused_before = refused - self._refused_before, refused
        if self._measured_ns and passed_ns > 0 and (new.any() or self._refused.any()):
            windows = passed_ns / self._windows_ns
            kept = np.exp(-FADES * windows)
            self._refused = self._refused * kept + (1 - kept) * new / windows
            self._refused[self._refused < 0.5] = 0.0
        self._measured_ns = now_ns


def _latest(words: Words) -> Words:
    """The largest word of each row."""
    return words.max(axis=1) if words.shape[1] > MANY_COLUMNS else reduce(np.maximum, words.T)


def _names(settings: RateSettings, count: int) -> Sequence[str]:
    """Of quotas in keys: a hash of a configured customer's name, or the place in the sketch."""
    named = [f"c{mmh3.hash_bytes(name.encode(errors='surrogatepass')).hex()}" for name in sorted(settings.customers)]
    return named + [f"h{place}" for place in range(count - len(named))]
