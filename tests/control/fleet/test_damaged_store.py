"""A membership whose store holds what is no fleet's data, or refuses it: closed, with the remedy named, and alive."""

from pathlib import Path

import pytest

from gateway.control.fleet.store_state import Word
from gateway.control.fleet.timing import Timing
from tests.control.fleet.hosts import LEASE_NS, new_fleet, some_beats, until
from tests.control.fleet.servers import RedisServer, asynchronous

DAMAGED = {
    "no JSON": "{",
    "a list": "[]",
    "a number": "7",
    "nothing of a fleet": "{}",
}
CORE = '{"fleet_key":"k","protocol":1,"lease_ns":30000000000,"revision":1,"settled":"","words":{},"notes":{}}'
CHANGED = {
    "a word of one number": ('"words":{}', '"words":{"m/2":[1]}'),
    "a word of texts": ('"words":{}', '"words":{"m/2":["1","0"]}'),
    "a word of fractions": ('"words":{}', '"words":{"m/2":[1.5,0.5]}'),
    "words as a list": ('"words":{}', '"words":[]'),
    "a note of two texts": ('"notes":{}', '"notes":{"m/2":["stop","ann"]}'),
    "a note of numbers": ('"notes":{}', '"notes":{"m/2":[1,2,3,4]}'),
    "a revision of text": ('"revision":1', '"revision":"1"'),
    "no revision": ('"revision":1', '"revision":null'),
    "a lease of text": ('"lease_ns":30000000000', '"lease_ns":"3s"'),
    "no protocol": ('"protocol":1', '"protocol":null'),
    "a key of numbers": ('"fleet_key":"k"', '"fleet_key":7'),
    "settled of nothing": ('"settled":""', '"settled":null'),
}
DAMAGED |= {name: CORE.replace(*change) for name, change in CHANGED.items()}


@pytest.mark.parametrize("core", DAMAGED.values(), ids=DAMAGED.keys())
@asynchronous
async def test_damaged_data_closes_and_names_the_remedy(redis: RedisServer, tmp_path: Path, core: str) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a")
        await fleet.open()
        fleet.write("core", "core", core, "tag", "another")
        a.start()
        await until(lambda: "damaged" in a.membership.problem)
        assert "choose another fleet.name, or delete the data" in a.membership.problem
        fleet.clock.advance(LEASE_NS)
        assert not a.allows("m/2")
        fleet.wipe()
        await until(lambda: not a.membership.problem)


RECORDS = {
    "no JSON": "{",
    "a list": "[]",
    "a beat of text": '{"beat":"1","applied":0,"hold":false,"name":"b","candidates":[]}',
    "a revision of text": '{"beat":1,"applied":"0","hold":false,"name":"b","candidates":[]}',
    "a name of numbers": '{"beat":1,"applied":0,"hold":false,"name":7,"candidates":[]}',
    "hold of text": '{"beat":1,"applied":0,"hold":"no","name":"b","candidates":[]}',
    "candidates of numbers": '{"beat":1,"applied":0,"hold":false,"name":"b","candidates":[2]}',
    "candidates of text": '{"beat":1,"applied":0,"hold":false,"name":"b","candidates":"m/2"}',
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
@asynchronous
async def test_a_damaged_record_closes_and_names_the_remedy(redis: RedisServer, tmp_path: Path, record: str) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a")
        fleet.write("members", "zz", record)
        a.start()
        await until(lambda: "choose another fleet.name, or delete the data" in a.membership.problem)
        assert not a.state.open
        fleet.wipe()
        await until(lambda: not a.membership.problem)


@pytest.mark.parametrize("version", ["9" * 30, "9" * 5000, "-1", "²", ""])
@asynchronous
async def test_a_word_of_no_release_is_left_alone(redis: RedisServer, tmp_path: Path, version: str) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a")
        await fleet.open()
        a.membership.host = a.state._replace(words={**a.state.words, f"m/{version}": Word(1, 1)})
        a.start()
        await some_beats(a)
        assert not a.membership.problem and a.log.decisions == []


@pytest.mark.parametrize("member", [False, True], ids=["new", "member before"])
@asynchronous
async def test_a_refused_lease_closes_and_keeps_the_notes_of_stops(
    redis: RedisServer, tmp_path: Path, member: bool
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await a.beat()
        if member:
            await fleet.open()
            assert b.allows("m/2")
        b.membership.timing = Timing(2 * LEASE_NS, 10_000_000)
        b.start()
        await until(lambda: "fleet.lease" in b.membership.problem)
        assert b.membership.problem == "fleet.lease is 60s here and 30s in the fleet: set it to that"
        b.stop_here("m", 2, "ann", "wrong answers", {})
        await some_beats(b)
        assert b.membership.unconfirmed == ("m/2",)
        assert b.membership.notes["m/2"].reason == "wrong answers"
        assert not b.state.open and not b.allows("m/2") and not a.stopped("m/2")
