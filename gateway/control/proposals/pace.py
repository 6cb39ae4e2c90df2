"""The pace at which a version is received."""

import asyncio
from typing import Final

BYTES_PER_S: Final = 16 << 20  # at most: control has precedence over the workers, and would take their cores
MIN_PAUSE_S: Final = 0.002


class Pace:
    """Await `after` each piece that was received."""

    def __init__(self) -> None:
        self._due_s = 0.0  # when the next bytes may be received, on the loop's clock

    async def after(self, size: int) -> None:
        """Wait until the next bytes may be received, after `size` of them."""
        now_s = asyncio.get_running_loop().time()
        self._due_s = max(now_s, self._due_s) + size / BYTES_PER_S
        if self._due_s - now_s > MIN_PAUSE_S:
            await asyncio.sleep(self._due_s - now_s)
