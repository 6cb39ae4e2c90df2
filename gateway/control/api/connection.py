"""A connection of the control plane, which few have a use for at once."""

from typing import Final

from gateway.system.descriptors import for_connections
from gateway.web.timeouts import TimeoutProtocol

MOST: Final = 512  # some hundred clients that follow the events, and as many again that ask
PART: Final = 2  # of the descriptors for connections, at most one in so many: control has much else to open


class ControlConnection(TimeoutProtocol):
    """uvicorn's protocol, of whose connections there are only so many."""

    def most(self) -> int:
        return min(MOST, for_connections() // PART)
