"""The keys that sign prediction ids, as a file on a real disk."""

import os
import stat
import time
from pathlib import Path

import orjson
import pytest

from gateway.errors import SettingsError
from gateway.records import token_keys as keys_module
from gateway.records.token import encoded_names
from gateway.records.token_keys import KEY_NUMBERS, MAX_KEYS, ROTATE_AFTER_S, TokenKeys, token_keys
from gateway.routing.release import Decision, Variant

DECISION = Decision(1, Variant.STABLE, "default", None, 0, 1.0)


def token(keys: TokenKeys) -> str:
    return keys.signer().token(encoded_names("m", "r"), DECISION, 1, 2, False).decode()


def file(folder: Path) -> Path:
    return folder / "token-keys.json"


def aged(folder: Path, seconds: float) -> None:
    """Age all keys by so many seconds."""
    entries = orjson.loads(file(folder).read_bytes())
    for entry in entries:
        entry["created_s"] -= seconds
    file(folder).write_bytes(orjson.dumps(entries))


def entry(number: object = 0, created_s: object = 1.0, secret: object = "00" * 32) -> dict[str, object]:
    return {"key": number, "created_s": created_s, "secret": secret}


def test_keys_are_the_same_when_read_again(tmp_path: Path) -> None:
    first = token_keys(tmp_path)
    assert token_keys(tmp_path) == first
    assert len(first.current.secret) == 32


def test_key_file_is_readable_by_owner_only(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        file(tmp_path).with_suffix(".new").write_bytes(b"left by a killed run")
        token_keys(tmp_path)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(file(tmp_path).stat().st_mode) == 0o600
    token_keys(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
def test_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    token_keys(tmp_path)
    file(tmp_path).chmod(mode)
    with pytest.raises(SettingsError, match=rf"open to others \(mode {mode:o}\); run chmod 600"):
        token_keys(tmp_path)


def test_key_older_than_a_month_is_replaced_and_still_verifies(tmp_path: Path) -> None:
    first = token_keys(tmp_path)
    aged(tmp_path, ROTATE_AFTER_S - 60)
    assert token_keys(tmp_path).pairs() == first.pairs()
    aged(tmp_path, 120)
    second = token_keys(tmp_path)
    assert second.current.number == first.current.number + 1
    assert second.current.secret != first.current.secret
    assert second.signer().read(token(first)).model == "m"
    assert second.signer().read(token(second)).model == "m"


def test_key_numbers_are_reused_when_all_are_used(tmp_path: Path) -> None:
    made = [token_keys(tmp_path)]
    for _ in range(KEY_NUMBERS + 5):
        aged(tmp_path, ROTATE_AFTER_S + 1)
        made.append(token_keys(tmp_path))
    last = made[-1]
    assert last.current.number == 5
    assert len(last.keys) == MAX_KEYS
    signer = last.signer()
    assert all(signer.read(token(keys)).nonce == 1 for keys in made[-MAX_KEYS:])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"7",
        b"{}x",
        b'{"key": 1}',
        b"[7]",
        b"[{}]",
        orjson.dumps([entry(256)]),
        orjson.dumps([entry(-1)]),
        orjson.dumps([entry("0")]),
        orjson.dumps([entry(created_s="yesterday")]),
        orjson.dumps([entry(secret="")]),
        orjson.dumps([entry(secret="00" * 31)]),
        orjson.dumps([entry(secret="zz" * 32)]),
        orjson.dumps([entry(secret=None)]),
    ],
    ids=repr,
)
def test_damaged_key_file_is_refused_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    file(tmp_path).write_bytes(content)
    file(tmp_path).chmod(0o600)
    with pytest.raises(SettingsError, match=r"is damaged .*; restore it; or remove it"):
        token_keys(tmp_path)


def test_folder_in_place_of_the_key_file_is_refused(tmp_path: Path) -> None:
    file(tmp_path).mkdir(0o700)
    with pytest.raises(SettingsError, match="cannot be read"):
        token_keys(tmp_path)


def test_unwritable_disk_is_refused_where_there_is_no_key_yet(tmp_path: Path) -> None:
    file(tmp_path).with_suffix(".new").mkdir()
    with pytest.raises(SettingsError, match="cannot be written"):
        token_keys(tmp_path)


def test_unwritable_disk_leaves_the_old_key_in_force(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = token_keys(tmp_path)
    aged(tmp_path, ROTATE_AFTER_S + 1)
    file(tmp_path).with_suffix(".new").mkdir()
    assert token_keys(tmp_path).pairs() == first.pairs()
    assert "so the old key continues to sign prediction ids" in caplog.text


def test_clock_set_back_makes_no_new_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = token_keys(tmp_path)
    now_s = time.time()
    monkeypatch.setattr(keys_module.time, "time", lambda: now_s - 10 * ROTATE_AFTER_S)
    assert token_keys(tmp_path).pairs() == first.pairs()
