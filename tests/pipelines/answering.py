"""Which versions answer live traffic."""

import httpx

CUSTOMERS = 60  # at a weight of 10%, a candidate that nobody of so many gets is none


def answering(url: str) -> set[int]:
    """The versions of digits that answer many customers of the gateway at `url`."""
    body = {"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}]}
    with httpx.Client(base_url=url) as client:
        answers = [
            client.post("/v2/models/digits/infer", json=body, headers={"x-customer-id": f"new-{number}"}).json()
            for number in range(CUSTOMERS)
        ]
    return {int(answer["model_version"]) for answer in answers}
