"""The store's scripts, each run atomically: the exchange of a beat, and the resume of a release."""

from collections.abc import Mapping

from gateway.control.fleet.store_state import (
    FIRST,
    Exchange,
    Identity,
    Member,
    Reply,
    StoreState,
    Word,
    Words,
)


def exchange(store: StoreState, request: Exchange) -> tuple[StoreState, Reply]:
    """Write the host's record and claims, then read everything. Another lease or protocol is refused."""
    if not store.fleet_key:
        store = store._replace(fleet_key=request.new_key, protocol=request.protocol, lease_ns=request.lease_ns)
    if refused := refusal(store, request):
        return store, reply_of(store, refused)
    settled = is_settled(store)
    words = merged(store.words, request)
    settle = request.settle and not settled and request.known == store.identity
    # a stop of what is stopped already moves the revision too: a resume that is still on its way must fail then
    changed = words is not store.words or settle or bool(request.stops)
    store = store._replace(
        revision=store.revision + changed,
        settled=store.run_id if settle else store.settled,
        words=words,
        members=members_after(store, request),
    )
    return store, reply_of(store)


def refusal(store: StoreState, request: Exchange) -> str:
    """Why the host may not take part, or an empty text: the lease and the protocol are the fleet's."""
    if request.lease_ns != store.lease_ns:
        here_s, fleet_s = request.lease_ns / 1e9, store.lease_ns / 1e9
        return f"fleet.lease is {here_s:g}s here and {fleet_s:g}s in the fleet: set it to that"
    if request.protocol != store.protocol:
        return f"this gateway speaks version {request.protocol} of the fleet's protocol, the fleet {store.protocol}"
    return ""


def is_settled(store: StoreState) -> bool:
    """Whether a host has opened in this life of the store: what older lives permitted is no longer taken."""
    return store.settled == store.run_id


def merged(words: Words, request: Exchange) -> Words:
    """The words with the host's claims and stops merged in; the same object if that changes nothing."""
    after = dict(words)
    for release, claimed in request.claims.items():
        after[release] = merge(after.get(release, FIRST), claimed)
    for release in request.stops:
        after[release] = stop_current(after.get(release, FIRST))
    return words if after == words else after


def merge(word: Word, claimed: Word) -> Word:
    """The maxima of both. A higher epoch that is only claimed opens nothing: what is stopped stays so."""
    epoch = max(word.epoch, claimed.epoch)
    return Word(epoch, max(epoch if word.stopped else word.stop, claimed.stop))


def stop_current(word: Word) -> Word:
    """The word with its current epoch stopped."""
    return Word(word.epoch, max(word.epoch, word.stop))


def members_after(store: StoreState, request: Exchange) -> Mapping[str, Member]:
    """The records with the host's own and lost ones of holding members, without those that it drops."""
    members = dict(store.members)
    for incarnation, beat in request.drops:
        if incarnation in members and members[incarnation].beat == beat:
            del members[incarnation]
    for incarnation, name in request.holds.items():
        members.setdefault(incarnation, Member(0, 0, True, name))
    if request.leaving:
        members.pop(request.incarnation, None)
        return members
    old = members.get(request.incarnation)
    if old is None or request.beat > old.beat:  # else a late copy of an exchange
        applied = applied_here(store, request)
        members[request.incarnation] = Member(
            request.beat, applied, request.hold, request.name, request.candidates, request.protocol
        )
    return members


def applied_here(store: StoreState, request: Exchange) -> int:
    """The revision that the host has applied, 0 if it is one of another life of the store."""
    return request.applied if request.known == store.identity and request.applied <= store.revision else 0


def resume(store: StoreState, known: Identity, release: str, epoch: int) -> tuple[StoreState, str]:
    """Begin a new epoch of a stopped release, if `epoch` is its current one. Returns why not, or an empty text."""
    word = store.words.get(release, FIRST)
    if known != store.identity or not is_settled(store):
        return store, "the store is new: try again once the hosts have opened"
    if word.epoch != epoch:
        return store, f"{release} is in epoch {word.epoch}, not {epoch}: it has been resumed meanwhile"
    if not word.stopped:
        return store, f"{release} is not stopped"
    words = {**store.words, release: Word(word.stop + 1, word.stop)}
    return store._replace(words=words, revision=store.revision + 1), ""


def reply_of(store: StoreState, refused: str = "") -> Reply:
    """What an exchange that leaves the store in this state answers."""
    settled = is_settled(store)
    return Reply(store.identity, store.revision, settled, store.words, store.members, refused)
