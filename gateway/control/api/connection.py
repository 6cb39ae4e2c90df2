"""HTTP connections of the control plane, limited in number."""

from typing import Final

from gateway.system.descriptors import max_connections
from gateway.web.timeouts import TimeoutProtocol

MAX_CONNECTIONS: Final = 512  # event streams (32 at most) and clients that send requests
DESCRIPTOR_DIVISOR: Final = 2  # at most one in PART of the descriptors for connections: control opens many other files


class ControlConnection(TimeoutProtocol):
    """uvicorn's HTTP protocol with a limit on the number of connections."""

    def max_connections(self) -> int:
        """The number of connections that may be open at once."""
        return min(MAX_CONNECTIONS, max_connections() // DESCRIPTOR_DIVISOR)
