"""What MLflow signs of a webhook's delivery: its id, its time and its body, with the secret of the webhook.

As in MLflow's mlflow/webhooks/delivery.py, 3.17, which follows https://www.standardwebhooks.com.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from gateway.errors import InvalidRequest, Unauthenticated

SIGNATURE, DELIVERY, TIMESTAMP = b"x-mlflow-signature", b"x-mlflow-delivery-id", b"x-mlflow-timestamp"
VERSION: Final = b"v1,"
MOST_AGE_S: Final = 300.0
REFUSED: Final = "the delivery is not signed with the webhook's secret"


def check_delivery(secret: str, headers: Mapping[bytes, bytes], body: bytes, now_s: float) -> None:
    """Raise Unauthenticated unless the delivery is signed with the secret, and InvalidRequest if it was signed more
    than MOST_AGE_S ago, or is to be. `headers`: by name in small letters; `now_s`: since 1970.
    """
    signature, delivery, timestamp = (headers.get(name, b"") for name in (SIGNATURE, DELIVERY, TIMESTAMP))
    digest = hmac.digest(
        secret.encode(errors="surrogateescape"), b".".join((delivery, timestamp, body)), hashlib.sha256
    )
    if not hmac.compare_digest(signature, VERSION + base64.b64encode(digest)):
        raise Unauthenticated(REFUSED)
    age_s = now_s - int(timestamp) if timestamp.isdigit() and len(timestamp) < 18 else None
    if age_s is None or abs(age_s) > MOST_AGE_S:
        said = "no number of seconds since 1970" if age_s is None else f"{age_s:.0f} s ago"
        raise InvalidRequest(
            f"the delivery's timestamp is {said}; at most {MOST_AGE_S:.0f} s are taken: set the clocks"
        )
