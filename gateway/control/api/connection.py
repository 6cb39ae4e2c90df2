"""HTTP connections of the control plane, limited in number."""

from typing import Final

from gateway.system.descriptors import for_connections
from gateway.web.timeouts import TimeoutProtocol

MOST: Final = 512  # event streams (32 at most) and clients that send requests
PART: Final = 2  # at most one in PART of the descriptors for connections: control opens many other files


class ControlConnection(TimeoutProtocol):
    """uvicorn's HTTP protocol with a limit on the number of connections."""

    def most(self) -> int:
        """The number of connections that may be open at once."""
        return min(MOST, for_connections() // PART)
