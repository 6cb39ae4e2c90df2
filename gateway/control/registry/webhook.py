"""Takes the deliveries of MLflow's webhooks. Nothing in one is trusted: it lets the next poll come now, no more."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.registry.webhook import check_delivery


@dataclass(frozen=True, slots=True)
class Webhook:
    """`secret`: that of the webhook. `hint`: lets the next poll come now."""

    secret: str
    hint: Callable[[], None]

    def receive(self, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """Take a delivery. Raises Unauthenticated, InvalidRequest."""
        check_delivery(self.secret, headers, body, time.time())
        self.hint()
