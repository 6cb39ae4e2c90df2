"""What the exhaustive check looks at in each state: stops that may return, and hosts that may answer against them."""

from gateway.control.fleet import host as host_step
from gateway.control.fleet import stop_call
from gateway.control.fleet.stop_call import StopOutcome
from gateway.control.fleet.store_state import FIRST, Word
from loadtests.fleet.model import RELEASE, TIMING, Facts, State, with_slot


class Broken(AssertionError):
    """A host may answer in an epoch that a confirmed stop has ended."""


def checked(state: State) -> State:
    """The state with the stops returned that may return. Raises Broken if a host may answer where it must not."""
    for index, slot in enumerate(state.slots):
        call, host = slot.call, slot.host
        if call is None or host is None:
            continue
        if stop_call.outcome(call, host, state.now, TIMING) is StopOutcome.CONFIRMED:
            confirmed = (*state.facts.confirmed, (call.epoch, slot.executed, slot.life))
            state = state._replace(facts=state.facts._replace(confirmed=confirmed))
            state = with_slot(state, index, slot._replace(call=None))
    if state.facts.confirmed:
        for slot in state.slots:
            if slot.host is not None and host_step.may_send(slot.host, RELEASE, state.now):
                _check(state.facts, slot.host.incarnation, slot.host.words.get(RELEASE, FIRST))
    return state


def _check(facts: Facts, host: str, word: Word) -> None:
    born = dict(facts.born).get(word.epoch, 0)
    for epoch, resumes, life in facts.confirmed:
        excused = life < facts.life and facts.carried < max(epoch, word.epoch)
        if born <= resumes and not excused:
            raise Broken(f"{host} may answer in epoch {word.epoch} after the stop of {epoch}")
