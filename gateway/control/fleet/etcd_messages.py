"""The messages to etcd's JSON gateway and what its replies say: a transaction, a read of all data, a watch."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from gateway.control.fleet.store import Snapshot, Transaction

Message = dict[str, Any]
LIFE, TAG, CORE, URGENT, MEMBERS = b"life", b"tag", b"core", b"urgent", b"members/"
URGENT_VALUE: Final = b"1"


class EtcdData(NamedTuple):
    """`cluster`, `revision`: etcd's own. `life`: random, made with the data; empty without data.

    `written`: by incarnation, the revision of the last change of its record.
    """

    committed: bool
    cluster: str
    revision: int
    life: str
    tag: str
    core: bytes
    members: Mapping[str, bytes]
    written: Mapping[str, int]

    @property
    def run_id(self) -> str:
        """The cluster and the life of the fleet's data in it."""
        return f"{self.cluster}-{self.life}"

    @property
    def snapshot(self) -> Snapshot:
        """Without what is only etcd's."""
        return Snapshot(self.committed, self.run_id, self.tag, self.core, self.members)


class EtcdKeys:
    """The keys of a fleet, or of another document of it. Names are quoted, so that no fleet's prefix is the beginning
    of another's, and none is that of all documents.
    """

    def __init__(self, name: str, document: str = "") -> None:
        self.prefix = f"gateway/{_quoted(name)}/".encode()
        if document:
            self.prefix = f"gateway/%documents/{_quoted(name)}/{_quoted(document)}/".encode()

    def of(self, key: bytes) -> str:
        """A key as messages have it."""
        return in_base64(self.prefix + key)

    def member(self, incarnation: str) -> str:
        """The key of a member's record."""
        return self.of(MEMBERS + incarnation.encode("utf-8", "surrogateescape"))

    def read(self, key: bytes = b"") -> Message:
        """The request for all that begins with `key`."""
        first = self.prefix + key
        return {"key": in_base64(first), "range_end": in_base64(first[:-1] + bytes([first[-1] + 1]))}

    def watch(self) -> Message:
        """The request for hints from now on."""
        return {"create_request": {"key": self.of(URGENT)}}

    def begin_life(self, before: str, after: str) -> Message:
        """The request that begins a new life if that `before` is still the present one, and reads all data."""
        return {
            "compare": [self._same(self.of(LIFE), before.encode() or None)],
            "success": [_put(self.of(LIFE), after.encode()), {"request_range": self.read()}],
            "failure": [{"request_range": self.read()}],
        }

    def transaction(self, transaction: Transaction, *, core_known: bool) -> Message:
        """The request that carries it out. With the core known, only the members are read after it."""
        life = transaction.run_id.partition("-")[2]
        compare = [self._same(self.of(LIFE), life.encode()), self._same(self.of(TAG), _text(transaction.tag) or None)]
        success = []
        if transaction.core is not None:
            success += [_put(self.of(TAG), _text(transaction.new_tag)), _put(self.of(CORE), transaction.core)]
        for incarnation, before, after in transaction.records:
            key = self.member(incarnation)
            compare.append(self._same(key, before))
            success.append({"request_delete_range": {"key": key}} if after is None else _put(key, after))
        if transaction.urgent:
            success.append(_put(self.of(URGENT), URGENT_VALUE))
        success.append({"request_range": self.read(MEMBERS if core_known else b"")})
        return {"compare": compare, "success": success, "failure": [{"request_range": self.read()}]}

    @staticmethod
    def _same(key: str, value: bytes | None) -> Message:
        if value is None:
            return {"key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        return {"key": key, "target": "VALUE", "result": "EQUAL", "value": in_base64(value)}

    def data(self, reply: Message) -> EtcdData:
        """What a reply says: that of a read, or that of a transaction, whose last response is a read."""
        committed = bool(reply.get("succeeded"))
        header = reply["header"]
        read = reply["responses"][-1]["response_range"] if "responses" in reply else reply
        fields, members, written = {}, {}, {}
        for pair in read.get("kvs", ()):
            key = b64decode(pair["key"]).removeprefix(self.prefix)
            value = b64decode(pair.get("value", ""))
            if key.startswith(MEMBERS):
                incarnation = key.removeprefix(MEMBERS).decode("utf-8", "surrogateescape")
                members[incarnation], written[incarnation] = value, int(pair["mod_revision"])
            else:
                fields[key] = value
        life, tag = (fields.get(key, b"").decode("utf-8", "surrogateescape") for key in (LIFE, TAG))
        revision = int(header.get("revision", 0))
        return EtcdData(committed, header["cluster_id"], revision, life, tag, fields.get(CORE, b""), members, written)


def in_base64(data: bytes) -> str:
    """Bytes as JSON has them."""
    return b64encode(data).decode()


def _quoted(name: str) -> str:
    return quote(name.encode("utf-8", "surrogateescape"), safe="")


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _put(key: str, value: bytes) -> Message:
    return {"request_put": {"key": key, "value": in_base64(value)}}
