"""Whose customer a prediction is, and whose rate limits it counts towards: those of a key that acts for others, too."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from gateway.auth.fleet_rate_limit import attach_fleet_rate_limiter, create_rate_shares
from gateway.auth.keyfile import add_key
from gateway.auth.keyring import Identity, Keyring
from gateway.auth.rate_limit import Quota, attach_rate_limiter, create_rate_counters
from gateway.errors import Forbidden, InvalidRequest, RateExceeded
from gateway.routing.attributes import Attributes
from gateway.settings.gateway import RateSettings
from gateway.settings.keys import Scope
from gateway.shm.scoreboard import HEAD
from gateway.worker.http.access import SMALL_BYTES, Access

NOW_NS = 5_000_000_000_000
SCOPE = {"query_string": b""}


class Caller:
    """A key of `shop`, and access control under these rate limits at one moment."""

    def __init__(self, folder: Path, *scopes: Scope, **limits: object) -> None:
        key, _ = add_key(folder / "keys.yaml", "shop", scopes, datetime.now(UTC), None)
        rates, board = RateSettings.model_validate(limits), folder / "board.scoreboard"
        self._book = create_rate_counters(rates, board, 1)
        limiter = attach_rate_limiter(rates, board, 1, 0, memoryview(bytearray(8 * HEAD)).cast("q"))
        self._access = Access(Keyring(folder / "keys.yaml"), limiter, lambda: NOW_NS)
        self._headers = {b"authorization": b"Bearer " + key.encode()}

    def predict(self, customer: str | None = None) -> Attributes:
        """A prediction whose header or parameter names this customer."""
        headers = self._headers | ({} if customer is None else {b"x-customer-id": customer.encode()})
        identity: Identity | None = self._access.predict(SCOPE, headers)
        return self._access.admit(identity, Attributes(customer))

    def refused(self, customer: str | None = None) -> bool:
        try:
            self.predict(customer)
        except RateExceeded:
            return True
        return False


def test_key_with_delegate_acts_for_the_customer_that_the_request_names(tmp_path: Path) -> None:
    shop = Caller(tmp_path, Scope.PREDICT, Scope.DELEGATE)
    assert [shop.predict(name).customer for name in ("acme", "globex", "shop", None)] == [
        "acme", "globex", "shop", "shop"
    ]  # fmt: skip
    with pytest.raises(InvalidRequest, match="1 to 200"):
        shop.predict("a" * 201)


def test_key_without_delegate_may_not_name_another_customer(tmp_path: Path) -> None:
    shop = Caller(tmp_path, Scope.PREDICT)
    assert shop.predict("shop").customer == shop.predict().customer == "shop"
    with pytest.raises(Forbidden, match="scope delegate"):
        shop.predict("acme")


def test_default_limit_holds_for_each_customer_and_not_for_all_whom_a_key_serves(tmp_path: Path) -> None:
    shop = Caller(tmp_path, Scope.PREDICT, Scope.DELEGATE, default="2/s")
    served = [f"user-{number}" for number in range(5)]
    assert not any(shop.refused(name) for name in served * 2)
    assert all(shop.refused(name) for name in served)
    assert [shop.refused() for _ in range(3)] == [False, False, True], "the key's own requests count once"


def test_limit_that_names_the_key_s_customer_holds_for_all_whom_it_serves(tmp_path: Path) -> None:
    shop = Caller(tmp_path, Scope.PREDICT, Scope.DELEGATE, customers={"shop": "4/s", "small": "1/s"})
    assert [shop.refused(name) for name in ("small", "small", "acme", None, "globex")] == [
        False, True, False, False, False
    ]  # fmt: skip
    assert shop.refused("globex"), "four are admitted, and the one that its own limit refused does not count"


def test_two_customers_in_one_request_are_refused(tmp_path: Path) -> None:
    access = Caller(tmp_path, Scope.PREDICT, Scope.DELEGATE)._access
    shop = Identity("key", "shop", frozenset(), 0, delegates=True)
    with pytest.raises(InvalidRequest, match=r"'acme', and parameters\.customer 'globex'"):
        access.admit(shop, Attributes("acme", parameters={"customer": "globex"}))
    assert access.admit(shop, Attributes("acme", parameters={"customer": "acme"})).customer == "acme"


def test_request_that_is_counted_for_the_key_s_customer_counts_once_for_the_other(tmp_path: Path) -> None:
    """In a fleet, where the request is admitted anew once the store has counted it."""
    rates, board = RateSettings.model_validate({"customers": {"acme": "10/s", "shop": "1/s"}}), tmp_path / "board"
    create_rate_counters(rates, board, 1)
    shares = create_rate_shares(rates, board, 1)
    assert shares is not None
    shares.put(np.array([3, -1 - 7]))  # of acme, and of shop, which the store counts
    limiter = attach_fleet_rate_limiter(rates, board, 1, 0, memoryview(bytearray(8 * HEAD)).cast("q"))

    async def count(_: Quota) -> int:
        return 0

    access = Access(None, limiter, lambda: NOW_NS, count)
    shop = Identity("key", "shop", frozenset(), 0, delegates=True)
    for _ in range(3):
        assert asyncio.run(access.counted(lambda: access.admit(shop, Attributes("acme"))))[0].customer == "acme"
    with pytest.raises(RateExceeded):
        asyncio.run(access.counted(lambda: access.admit(shop, Attributes("acme"))))


class Counting:
    """A key of `shop`, whose requests the store counts."""

    def __init__(self, folder: Path, *answers: int) -> None:
        key, _ = add_key(folder / "keys.yaml", "shop", (Scope.PREDICT,), datetime.now(UTC), None)
        rates, board = RateSettings.model_validate({"customers": {"shop": "1/s"}}), folder / "board"
        self.book = create_rate_counters(rates, board, 1)
        shares = create_rate_shares(rates, board, 1)
        assert shares is not None
        self.shares, self.answers = shares, list(answers)
        self.shares.put(np.array([-1 - 7]))
        limiter = attach_fleet_rate_limiter(rates, board, 1, 0, memoryview(bytearray(8 * HEAD)).cast("q"))
        self.access = Access(Keyring(folder / "keys.yaml"), limiter, lambda: NOW_NS, self._count)
        self._key = {b"authorization": b"Bearer " + key.encode()}

    async def _count(self, _: Quota) -> int:
        return self.answers.pop(0)

    def first(self, **headers: str) -> tuple[Identity | None, bool]:
        given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        return asyncio.run(self.access.predict_first(SCOPE, self._key | given))


@pytest.mark.parametrize(
    "headers",
    [
        {"content_length": str(SMALL_BYTES + 1)},
        {"content_length": "9" * 19},
        {"transfer_encoding": "chunked"},
        {"content_length": "20", "content_encoding": "gzip"},
    ],
)
def test_request_whose_body_may_be_large_is_refused_before_that_is_read(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    shop = Counting(tmp_path, 0, 5_000_000_000)
    identity, uncounted = shop.first(**headers)
    assert identity is not None and not uncounted and len(shop.answers) == 1
    with pytest.raises(RateExceeded):
        shop.first(**headers)
    assert shop.answers == []


def test_request_with_a_key_is_counted_once_its_body_says_how_long_that_may_take(tmp_path: Path) -> None:
    shop, small = Counting(tmp_path, 0, 5_000_000_000), str(SMALL_BYTES)
    access = shop.access
    shop.shares.put(np.array([3]))
    identity, uncounted = shop.first(content_length=small)
    assert identity is not None and not uncounted, "its share says so at once"
    shop.shares.put(np.array([-1 - 7]))
    for _ in range(2):
        identity, uncounted = shop.first(content_length=small)
        assert identity is not None and uncounted

        def begin(identity: Identity = identity) -> Attributes:
            return access.admit(identity, Attributes(None), uncounted=True)

        if len(shop.answers) == 2:
            assert asyncio.run(access.counted(begin))[0].customer == "shop"
        else:
            with pytest.raises(RateExceeded):
                asyncio.run(access.counted(begin))
    with pytest.raises(RateExceeded):  # that it must wait is known before its body is read
        shop.first(content_length=small)
