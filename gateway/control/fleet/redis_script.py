"""The one script that runs in Redis or Valkey: it carries out a transaction and returns all data."""

from hashlib import sha1
from typing import Any, Final, NamedTuple

from gateway.control.fleet.store import Snapshot, Transaction

# The run id returned is that of the process and that of its replication history, which is new with each promotion: a
# primary that is deposed and promoted again, without a restart, has lost data.
#
# KEYS: the core's hash, the members' hash. ARGV: the channel, the tag whose core the caller has, "1" for a transaction
# (else only read), its run id and tag, "1" for a new core, the core, its tag, "1" if urgent; then for each record its
# incarnation, "1" if it was there, as it was, "1" if it is to be there, as it is to be.
#
# All or nothing: a script is not rolled back, so whatever can fail does so before the first write. Wrong types do in
# the reads; a full memory, a read-only or failing server refuse the first write. HDEL, which a full memory permits,
# stands before HSET, which it does not refuse any more then. A PUBLISH that is not permitted is only reported.
SCRIPT: Final = """
local server, replication = redis.call('INFO', 'server'), redis.call('INFO', 'replication')
if not string.find(replication, 'role:master', 1, true) then
  return redis.error_reply('READONLY a read only replica')
end
local process, history = string.match(server, 'run_id:(%w+)'), string.match(replication, 'master_replid:(%w+)')
if not process or not history then
  return redis.error_reply('ERR INFO has no run_id or no master_replid')
end
local run_id = process .. '-' .. history
local stored = redis.call('HMGET', KEYS[1], 'tag', 'core')
local tag, core = stored[1] or '', stored[2] or ''
redis.call('HLEN', KEYS[2])

local function holds()
  if ARGV[3] ~= '1' or ARGV[4] ~= run_id or ARGV[5] ~= tag then return false end
  for i = 10, #ARGV, 5 do
    local before = redis.call('HGET', KEYS[2], ARGV[i])
    if ARGV[i + 1] == '1' then
      if before ~= ARGV[i + 2] then return false end
    elseif before then return false end
  end
  return true
end

local function carry_out()
  for i = 10, #ARGV, 5 do
    if ARGV[i + 3] ~= '1' then redis.call('HDEL', KEYS[2], ARGV[i]) end
  end
  if ARGV[6] == '1' then
    redis.call('HSET', KEYS[1], 'tag', ARGV[8], 'core', ARGV[7])
    core, tag = false, ARGV[8]
  end
  for i = 10, #ARGV, 5 do
    if ARGV[i + 3] == '1' then redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 4]) end
  end
  if ARGV[9] ~= '1' then return '' end
  local published = redis.pcall('PUBLISH', ARGV[1], '1')
  return type(published) == 'table' and published.err or ''
end

local committed, unheard = 0, ''
if holds() then
  committed, unheard = 1, carry_out()
end
if tag ~= '' and tag == ARGV[2] then core = false end
return {committed, run_id, tag, core, unheard, redis.call('HGETALL', KEYS[2])}
"""
SHA: Final = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
FLAGS: Final = (b"0", b"1")


class ScriptReply(NamedTuple):
    """`unheard`: why the other members could not be told, or an empty text."""

    snapshot: Snapshot
    unheard: str


def encoded(text: str) -> bytes:
    """Text as bytes; whatever bytes other programs have written come back as they were."""
    return text.encode("utf-8", "surrogateescape")


def text_of(data: bytes) -> str:
    """The text of `encoded`."""
    return data.decode("utf-8", "surrogateescape")


Keys = tuple[bytes, bytes, bytes]


def keys_of(name: str) -> Keys:
    """The keys of the core and the members, and the channel, of a fleet. In a cluster they are in one slot."""
    prefix = b"{gateway:" + encoded(name) + b"}:"
    return prefix + b"core", prefix + b"members", prefix + b"urgent"


def document_keys(name: str, document: str) -> Keys:
    """The same for another document of the fleet, in the same slot."""
    prefix = b"{gateway:" + encoded(name) + b"}:document:" + encoded(document) + b":"
    return prefix + b"core", prefix + b"members", prefix + b"urgent"


def arguments(keys: Keys, known_tag: str, transaction: Transaction | None) -> list[bytes]:
    """Number of keys, keys and arguments of the script. `known_tag`: its core need not be sent back."""
    core_key, members_key, channel = keys
    words = [b"2", core_key, members_key, channel, encoded(known_tag)]
    if transaction is None:
        return [*words, b"0"]
    new_core = transaction.core is not None
    words += [b"1", encoded(transaction.run_id), encoded(transaction.tag), FLAGS[new_core], transaction.core or b""]
    words += [encoded(transaction.new_tag), FLAGS[transaction.urgent]]
    for incarnation, before, after in transaction.records:
        words += [
            encoded(incarnation),
            FLAGS[before is not None],
            before or b"",
            FLAGS[after is not None],
            after or b"",
        ]
    return words


def parsed(reply: list[Any], known_core: bytes, transaction: Transaction | None) -> ScriptReply:
    """The script's reply. It leaves out the core if it is that of the `known_tag`, or the transaction's."""
    committed, run_id, tag, core, unheard, flat = reply
    members = {text_of(incarnation): record for incarnation, record in zip(flat[::2], flat[1::2], strict=True)}
    if core is None:
        sent = transaction.core if committed and transaction is not None else None
        core = known_core if sent is None else sent
    return ScriptReply(Snapshot(committed == 1, text_of(run_id), text_of(tag), core, members), text_of(unheard))
