"""The keys file: what is stored of a key, who may read the file, and how changes take effect."""

import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.auth.keyfile import add_key, revoke_key
from gateway.auth.keyring import Keyring
from gateway.errors import NotFound, SettingsError
from gateway.settings.keys import KEY_PREFIX, Scope, load_keys
from tests.unprivileged import needs_root

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def add(file: Path, customer: str = "acme", *scopes: Scope, lifetime_s: float | None = None) -> str:
    return add_key(file, customer, scopes or (Scope.PREDICT,), NOW, lifetime_s)[0]


def test_key_identifies_its_customer_and_scopes(file: Path) -> None:
    key = add(file, "acme", Scope.PREDICT, Scope.READ)
    identity = Keyring(file).identity(key.encode())
    assert identity is not None
    assert (identity.customer, identity.scopes) == ("acme", {Scope.PREDICT, Scope.READ})
    assert str(identity) == f"acme (key {load_keys(file).keys[0].id})"


@pytest.mark.parametrize(
    "customer",
    [
        "0123",
        "1e3",
        "+41791234567",
        "12:30",
        "1_000",
        "on",
        "null",
        "~",
        "=",
        "2024-01-01",
        "\u201cacme\u201d",
        "!a",
        "*a",
        "a: b",
        "# a",
        "'",
    ],
)
def test_customer_name_is_kept_exactly_as_written(file: Path, customer: str) -> None:
    for _ in range(2):  # what is read is written again
        key = add(file, customer)
        identity = Keyring(file).identity(key.encode())
        assert identity is not None
        assert identity.customer == customer


def test_keys_file_stores_only_a_hash_and_is_readable_by_owner_only(file: Path) -> None:
    old = os.umask(0)
    try:
        key = add(file)
    finally:
        os.umask(old)
    assert key.startswith(KEY_PREFIX)
    assert key.removeprefix(KEY_PREFIX) not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == [file.name]


def test_keys_differ_and_hold_256_bits(file: Path) -> None:
    keys = {add(file) for _ in range(20)}
    assert len(keys) == 20
    assert {len(key.removeprefix(KEY_PREFIX)) for key in keys} == {43}, "32 bytes in base64"


@pytest.mark.parametrize("presented", [b"", b"cgw_", b"cgw_" + b"A" * 43, b"\xff\x00" * 10, b"x" * 10_000])
def test_malformed_key_identifies_no_one(file: Path, presented: bytes) -> None:
    add(file)
    assert Keyring(file).identity(presented) is None


def test_altered_key_identifies_no_one(file: Path) -> None:
    key = add(file)
    ring = Keyring(file)
    for other in (
        key[:-1],
        key + "A",
        key.upper(),
        key.removeprefix(KEY_PREFIX),
        key[:-1] + ("A" if key[-1] != "A" else "B"),
    ):
        assert ring.identity(other.encode()) is None


def test_expired_key_is_rejected(file: Path) -> None:
    over = add_key(file, "acme", (Scope.PREDICT,), NOW - timedelta(days=2), 86400)[0]
    valid = add(file, lifetime_s=3600)
    ring = Keyring(file)
    assert ring.identity(over.encode()) is None
    assert ring.identity(valid.encode()) is not None


def test_added_and_revoked_keys_take_effect_after_refresh(file: Path) -> None:
    first = add(file)
    ring = Keyring(file)
    second = add(file, "globex")
    ring.watcher.refresh()
    assert ring.identity(second.encode()) is not None
    revoked = revoke_key(file, load_keys(file).keys[0].id)
    ring.watcher.refresh()
    assert (revoked.customer, ring.identity(first.encode())) == ("acme", None)
    assert ring.identity(second.encode()) is not None
    with pytest.raises(NotFound, match="gateway keys list"):
        revoke_key(file, revoked.id)


def test_damaged_or_missing_keys_file_leaves_loaded_keys_in_force(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = add(file)
    ring = Keyring(file)
    whole = file.read_text()
    file.write_text("keys: [")
    for _ in range(3):
        ring.watcher.refresh()
    assert ring.identity(key.encode()) is not None
    file.unlink()
    ring.watcher.refresh()
    assert ring.identity(key.encode()) is not None
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"], "each reason once"
    file.write_text("keys: !!timestamp now")
    file.chmod(0o600)
    ring.watcher.refresh()
    assert ring.identity(key.encode()) is not None
    file.write_text(whole)
    file.chmod(0o600)
    ring.watcher.refresh()
    assert ring.identity(key.encode()) is not None


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o620, 0o602, 0o601])
def test_keys_file_accessible_to_others_is_refused(file: Path, mode: int) -> None:
    add(file)
    file.chmod(mode)
    with pytest.raises(SettingsError, match=rf"mode is {mode:03o}.*chmod 600"):
        Keyring(file)


def test_group_readable_keys_file_is_accepted_only_if_root_owns_it(file: Path) -> None:
    """As a secret is mounted into a container whose user is not root."""
    add(file)
    file.chmod(0o440)
    if file.stat().st_uid == 0:
        assert len(load_keys(file).keys) == 1
    else:
        with pytest.raises(SettingsError, match="mode is 440"):
            load_keys(file)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{id: a, sha256: KEY, customer: c, scopes: [read], created: 2026-01-01T00:00:00Z}", "must be the SHA-256"),
        ("{id: a, sha256: HASH, customer: c, scopes: [], created: 2026-01-01T00:00:00Z}", "scopes"),
        ("{id: a, sha256: HASH, customer: c, scopes: [root], created: 2026-01-01T00:00:00Z}", "predict"),
        ('{id: a, sha256: HASH, customer: "c\\n", scopes: [read], created: 2026-01-01T00:00:00Z}', "printable"),
        ("{id: a, sha256: HASH, customer: c, scopes: [read], created: 2026-01-01T00:00:00}", "created"),
        ("{id: KEY, sha256: HASH, customer: c, scopes: KEY, created: 2026-01-01T00:00:00Z}", "scopes"),
        ("{key: KEY}", "unknown key 'key'"),
    ],
)
def test_mistake_in_an_entry_is_reported_without_showing_the_key(file: Path, entry: str, says: str) -> None:
    key = KEY_PREFIX + "k" * 43
    file.write_text(f"keys: [{entry}]".replace("KEY", key).replace("HASH", "0" * 64))
    file.chmod(0o600)
    with pytest.raises(SettingsError) as refused:
        load_keys(file)
    assert says in str(refused.value)
    assert "keys[0]" in str(refused.value)
    assert key not in str(refused.value)


def test_duplicate_key_id_or_hash_is_refused(file: Path) -> None:
    entry = '{id: ID, sha256: "HASH", customer: c, scopes: [read], created: 2026-01-01T00:00:00Z}'
    same_id = [entry.replace("ID", "a").replace("HASH", digit * 64) for digit in "01"]
    same_hash = [entry.replace("ID", name).replace("HASH", "0" * 64) for name in "ab"]
    for entries, says in ((same_id, "same id, a"), (same_hash, "same sha256")):
        file.write_text(f"keys: [{', '.join(entries)}]")
        file.chmod(0o600)
        with pytest.raises(SettingsError, match=says):
            load_keys(file)


def test_concurrent_additions_are_all_kept(file: Path) -> None:
    threads = [threading.Thread(target=lambda: [add(file) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load_keys(file).keys) == 40


def test_adding_through_a_symlink_keeps_the_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real" / "keys.yaml", tmp_path / "keys.yaml"
    add(file)
    link.symlink_to(file)
    add(link)
    assert link.is_symlink()
    assert len(load_keys(file).keys) == 2


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_adding_a_key_keeps_the_file_mode(file: Path, mode: int) -> None:
    add(file)
    file.chmod(mode)
    add(file)
    assert stat.S_IMODE(file.stat().st_mode) == mode


@needs_root
def test_keys_file_changed_by_root_stays_readable_for_the_gateway_user(file: Path) -> None:
    """Whether the file is owned by the gateway, by root with the gateway's group, or made in the gateway's folder."""
    os.chown(file.parent, 10001, 10002)
    add(file)
    assert (file.stat().st_uid, file.stat().st_gid) == (10001, 10002)
    revoke_key(file, load_keys(file).keys[0].id)
    assert (file.stat().st_uid, file.stat().st_gid, stat.S_IMODE(file.stat().st_mode)) == (10001, 10002, 0o600)
    os.chown(file, 0, 10002)
    file.chmod(0o640)
    add(file)
    assert (file.stat().st_uid, file.stat().st_gid, stat.S_IMODE(file.stat().st_mode)) == (0, 10002, 0o640)


def test_keyring_without_a_file_is_refused_with_the_remedy(file: Path) -> None:
    with pytest.raises(SettingsError, match="gateway keys add"):
        Keyring(file)


def test_delegate_without_a_scope_that_it_extends_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="add predict or feedback"):
        add(file, "shop", Scope.DELEGATE, Scope.READ)
    add(file, "shop", Scope.DELEGATE, Scope.FEEDBACK)
