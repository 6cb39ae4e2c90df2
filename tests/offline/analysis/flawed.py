"""Recordings with known flaws, for an analysis to find."""

from typing import Any

import numpy as np

from tests.recording import Recording, data, json_request, loaded


def digits(count: int = 400) -> Recording:
    """Customer `blurry` sends blurred images, which the model errs on; one image is labelled by three customers.

    One in three rows is labelled; the candidate answers a mirror of one in five, and gave up on some of `eu-images`.
    """
    recording = Recording()
    generator = np.random.default_rng(7)
    images, truths = data("digits").test_x, data("digits").test_y
    for number in range(count):
        row, truth = images[number % len(images)], int(truths[number % len(images)])
        customer = ("acme", "globex", "blurry")[number % 3]
        if customer == "blurry":
            row = np.clip(row + generator.normal(0, 7, 64), 0, 16).astype(np.float32)
        rescued = number % 16 == 0
        more: dict[str, Any] = {"rescued_from": 2, "rescue_reason": "timeout"} if rescued else {}
        if number % 4 == 0:
            more |= {"route": "eu-images", "variant": "stable" if rescued else "candidate"}
        elif number % 2 == 0:
            more |= {"variant": "candidate"}
        version = 2 if more.get("variant") == "candidate" else 1
        prediction = recording.predict(json_request("digits", row[None]), version, customer=customer, **more)
        if number % 5 < 3:
            recording.judge(prediction, truth)
        if number % 5 == 4:
            _mirror(recording, prediction, row)
    for customer, truth in (("acme", 3), ("globex", 5), ("blurry", 5)):
        prediction = recording.predict(json_request("digits", images[:1]), customer=customer)
        recording.judge(prediction, truth)
    return recording


def tumors(count: int = 400) -> Recording:
    """Recorded predictions whose truth is inverted where the first feature is large."""
    recording = Recording("tumor")
    rows, truths = data("tumor").test_x, data("tumor").test_y
    threshold = np.quantile(rows[:, 0], 0.75)
    for number in range(count):
        row, truth = rows[number % len(rows)], int(truths[number % len(rows)])
        prediction = recording.predict(json_request("tumor", row[None]), 2)
        recording.judge(prediction, 1 - truth if row[0] > threshold else truth)
    return recording


def _mirror(recording: Recording, prediction: dict[str, Any], row: Any) -> None:
    _, scores = loaded("digits", 2).session.run({"image": row[None]})
    assert scores is not None
    candidate = int(scores.argmax())
    recording.mirror(prediction, predicted=candidate, agreement=candidate == prediction["predicted"], distance=0.5)
