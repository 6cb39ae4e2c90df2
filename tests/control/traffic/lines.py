"""Prediction lines as a worker writes them."""

import orjson

from gateway.errors import Outcome
from gateway.records.line import END, PREDICTION, RESPONSE, constant_part, origin_part, outcome_part


def line(
    model: str = "m",
    route: str = "everyone",
    customer: str | None = "acme",
    variant: str = "stable",
    request: bytes = b"{}",
    request_id: str | None = None,
    delegated_by: str | None = None,
    sha256: str = "0a",
) -> bytes:
    constant = constant_part(
        model=model, sha256=sha256, salt='s"alt,"bucket":', generation=1, version=1, variant=variant, route=route,
        weight_ppm=5, propensity=0.5,
    )  # fmt: skip
    constant += origin_part("0" * 32 if request_id else None, request_id, delegated_by)
    named, outcome = orjson.dumps(customer), outcome_part(Outcome.OK)
    begin = PREDICTION % (b"id", b"1", constant, b"7", named, b"null", outcome, 1, 2, 3, b"null")
    return b"".join((begin, request, RESPONSE, b"{}", END))
