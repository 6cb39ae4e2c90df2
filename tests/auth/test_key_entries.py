"""Reloading the keys file: only new entries are parsed, and the result equals that of parsing the whole file."""

import secrets
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from gateway.auth import key_entries as entries_module
from gateway.auth.key_entries import KeyEntries
from gateway.auth.keyfile import HEADING, add_key, revoke_key
from gateway.auth.keyring import Keyring
from gateway.errors import SettingsError
from gateway.settings.keys import KeysSettings, Scope, load_keys, parse_keys
from tests.processes.flawed import until
from tests.running import GatewayProcess
from tests.wire import looping_models

RELOADED = "keys.yaml has changed and is reloaded"
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def entry(number: int, **fields: str) -> str:
    given = {
        "id": f"k{number}",
        "sha256": f'"{number:064x}"',
        "customer": f"customer{number}",
        "scopes": "[predict]",
        "created": '"2026-11-26T18:00:00Z"',
        **fields,
    }
    return "- " + "  ".join(f"{name}: {value}\n" for name, value in given.items())


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "keys.yaml", HEADING + "keys:\n" + "".join(map(entry, range(100))))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of keys in each parse."""
    counts: list[int] = []

    def counted(text: str, path: Path) -> KeysSettings:
        found = parse_keys(text, path)
        counts.append(len(found.keys))
        return found

    monkeypatch.setattr(entries_module, "parse_keys", counted)
    return counts


def test_keyring_parses_only_new_entries(file: Path, parsed: list[int]) -> None:
    ring = Keyring(file)
    assert sum(parsed) == 100
    key, added = add_key(file, "acme", (Scope.PREDICT,), NOW, None)  # which writes the file anew, in its own form
    ring.watcher.refresh()
    parsed.clear()
    key, added = add_key(file, "acme", (Scope.PREDICT,), NOW, None)
    ring.watcher.refresh()
    assert parsed == [1]
    identity = ring.identity(key.encode())
    assert identity is not None and identity.key_id == added.id
    revoke_key(file, added.id)
    ring.watcher.refresh()
    assert (parsed, ring.identity(key.encode())) == ([1], None)


ODD = {
    "a comment between": "# mine\n" + entry(1),
    "a blank line": "\n" + entry(1),
    "an anchor": entry(1, customer="&a acme") + entry(2, customer="*a"),
    "an anchor of before": entry(1, customer="&a acme") + entry(2, scopes="&a [predict]") + entry(3, scopes="*a"),
    "a text over lines": entry(1, customer='"acme\n    limited"'),
    "a text that looks like an entry": entry(1, customer='"acme\n- id: x"'),
    "a key of the file's": entry(1) + "other: 1\n",
    "no end of line": entry(1).rstrip("\n"),
    "a second document": entry(1) + "---\nkeys: []\n",
    "the end of the document": entry(1) + "...\n",
    "a tag": entry(1, customer="!!str acme"),
    "the same id": entry(1) + entry(2, id="k1"),
    "the same hash": entry(1) + entry(2, sha256=f'"{1:064x}"'),
    "the same id as before": entry(2, id="k0"),
    "the same block": entry(1) + entry(1),
    "another scope": entry(1, scopes="[predict, fly]"),
    "a key itself": entry(1, sha256="cgw_" + "a" * 43),
    "windows": entry(1).replace("\n", "\r\n"),
    "tabs": "-\t" + entry(1)[2:],
    "quotes that stay open": entry(1, customer='"acme') + entry(2, customer='b"'),
    "a dash more": "- " + entry(1),
}


@pytest.mark.parametrize("name", ODD)
def test_incremental_parse_gives_the_same_result_as_a_full_parse(file: Path, name: str) -> None:
    entries: KeyEntries[object] = KeyEntries(file, lambda key: key)
    write(file, HEADING + "keys:\n" + entry(0))
    entries.read()
    write(file, HEADING + "keys:\n" + entry(0) + ODD[name])
    try:
        whole = list(load_keys(file).keys)
    except SettingsError as error:
        with pytest.raises(SettingsError) as raised:
            Keyring(file)
        assert str(raised.value) == str(error)
        return
    assert list(entries.read()) == whole


def test_entries_keep_no_memory_of_removed_keys(file: Path) -> None:
    entries: KeyEntries[object] = KeyEntries(file, lambda key: key)
    for number in range(0, 2000, 20):
        write(file, "keys:\n" + "".join(map(entry, range(number, number + 20))))
        assert len(entries.read()) == 20
    assert len(entries._known) <= 60


@pytest.mark.slow
@pytest.mark.parametrize("count", [5000])
def test_adding_a_key_among_many_does_not_block_the_event_loops(tmp_path: Path, count: int) -> None:
    """Each change once blocked all event loops for 1.55 s; 2 s on the machine that this test was written on."""
    text = "keys:\n" + "".join(entry(number, sha256=f'"{secrets.token_hex(32)}"') for number in range(count))
    keys = write(tmp_path / "keys.yaml", text)
    models = looping_models(tmp_path / "models")
    with GatewayProcess(tmp_path / "gateway", models, auth={"keys": str(keys)}) as gateway:
        over = threading.Event()
        slowest = {gateway.url + "/v2/health/live": 0.0, gateway.control_url + "/health": 0.0}

        def ask(url: str) -> None:
            with httpx.Client() as client:
                while not over.is_set():
                    begun = time.monotonic()
                    assert client.get(url).status_code == 200
                    slowest[url] = max(slowest[url], time.monotonic() - begun)
                    time.sleep(0.002)

        askers = [threading.Thread(target=ask, args=(url,)) for url in slowest]
        for asker in askers:
            asker.start()
        waits_s = []
        try:
            for number in range(3):
                text += entry(count + number)
                keys.with_suffix(".new").write_text(text)
                keys.with_suffix(".new").chmod(0o600)
                slowest.update(dict.fromkeys(slowest, 0.0))
                before = gateway.log.count(RELOADED)
                keys.with_suffix(".new").replace(keys)
                until(lambda: gateway.log.count(RELOADED) > before, "it is reloaded")  # noqa: B023
                time.sleep(0.5)  # by the others, too
                waits_s.append(max(slowest.values()))
        finally:
            over.set()
            for asker in askers:
                asker.join()
        assert min(waits_s) < 0.5, "what a busy machine adds to the others is not the gateway's doing"
