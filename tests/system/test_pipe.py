"""Messages between control and a worker over a pipe whose ends an event loop has made non-blocking."""

import os
import threading
import time
from collections.abc import Sequence

import pytest

from gateway.system.pipe import pipe


@pytest.mark.parametrize("sizes", [(1,), (20_000,), (1_000_000,), (5, 3_000_000, 7)])
def test_message_of_any_size_arrives_whole(sizes: Sequence[int]) -> None:
    ours, theirs = pipe()
    for end in (ours, theirs):
        os.set_blocking(end.fileno(), False)
    messages = [os.urandom(size) for size in sizes]
    sender = threading.Thread(target=lambda: [ours.send(message) for message in messages])
    sender.start()
    time.sleep(0.02)  # the buffer is full by now
    assert [theirs.recv() for _ in messages] == messages
    sender.join()
    ours.close()
    with pytest.raises(EOFError):
        theirs.recv()


def test_peer_is_gone_once_its_end_is_closed_even_with_messages_unread() -> None:
    ours, theirs = pipe()
    ours.send("unread")
    assert not theirs.peer_gone
    ours.close()
    assert theirs.peer_gone
    assert theirs.recv() == "unread"
