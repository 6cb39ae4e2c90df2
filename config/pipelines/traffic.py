"""Sends pictures of handwritten digits to a running gateway, and then the truth about them, so that there are records.

The pictures are scikit-learn's, sent in a fixed order, one a request, each by a customer of its own; the customers are
invented. `later` are the 957 training pictures that version 1 of digits has not seen: pipelines learn from those.
`held-out` are the 540 on which every version is judged: no version learns from them, so they compare two versions
fairly under live traffic.

A key, where the gateway asks for one, is read from $GATEWAY_API_KEY; it needs the scopes predict and feedback.
"""

import argparse
import contextlib
import csv
import os
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress

MODELS = Path(__file__).resolve().parents[2] / "models"
READY_WITHIN_S = 30.0  # a gateway that is just starting loads its models first
TRUTHS_AT_ONCE = 100  # so that most come a while after their predictions


@dataclass(slots=True)
class Sender:
    """Sends pictures and truths. `answered` and `right` count by version, `untold` are truths not sent yet."""

    client: httpx.Client
    answered: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    untold: list[dict[str, Any]] = field(default_factory=list)

    def wait(self) -> None:
        """Until the gateway is ready, or for READY_WITHIN_S."""
        end_s = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < end_s:
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/v2/health/ready").status_code == 200:
                    return
            time.sleep(0.2)

    def send(self, number: int, row: Any, label: int) -> None:
        tensor = {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": row.tolist()}
        customer = {"x-customer-id": f"customer-{number:03}"}
        answer = self._post("/v2/models/digits/infer", {"inputs": [tensor]}, customer)
        version = answer["model_version"]
        said = next(output["data"][0] for output in answer["outputs"] if output["name"] == "label")
        self.answered[version] += 1
        self.right[version] += said == label
        self.untold.append({"prediction_id": answer["parameters"]["prediction_id"], "truth": int(label)})

    def tell(self) -> None:
        told = self._post("/v2/feedback", self.untold, {})
        if told["rejected"]:
            raise SystemExit(f"a truth was rejected: {told['rejected'][0]['error']}")
        self.untold.clear()

    def _post(self, path: str, body: Any, headers: dict[str, str]) -> Any:
        try:
            answer = self.client.post(path, json=body, headers=headers)
        except httpx.TransportError as error:
            raise SystemExit(f"no gateway answers at {self.client.base_url} ({error}); does it run?") from None
        if answer.status_code not in (200, 202):
            raise SystemExit(f"{answer.url} answers {answer.status_code}: {answer.text}")
        return answer.json()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the gateway's data plane (%(default)s)")
    parser.add_argument("--images", choices=["later", "held-out"], default="later", help="which (%(default)s)")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N of them")
    parser.add_argument("--count", type=int, metavar="N", help="send at most N of them")
    parser.add_argument(
        "--truths",
        type=Path,
        metavar="FILE.csv",
        help="write the truths to this file instead of sending them; `gateway feedback FILE.csv` sends them",
    )
    parser.add_argument(
        "--until-now",
        type=Path,
        metavar="FILE.yaml",
        help="set `until` and `feedback_until` in this file to the time after the last truth",
    )
    return parser.parse_args()


def images(which: str) -> list[tuple[Any, int]]:
    """Rows of 64 grey values, each with the digit that it is."""
    sys.path[:0] = [str(MODELS / "digits"), str(MODELS)]
    from train import FEW, load

    data = load()
    rows, labels = (data.test_x, data.test_y) if which == "held-out" else (data.train_x[FEW:], data.train_y[FEW:])
    return list(zip(rows, labels, strict=True))


def end_period(file: Path, now: str) -> None:
    text, found = re.subn(r"(?m)^(until|feedback_until): .*$", rf'\1: "{now}"', file.read_text())
    if found != 2:
        raise SystemExit(f"{file} needs a line `until: …` and a line `feedback_until: …`")
    file.write_text(text)


def main() -> None:
    wanted = arguments()
    numbered = list(enumerate(images(wanted.images)))[wanted.skip :][: wanted.count]
    key = os.environ.get("GATEWAY_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    console = Console(stderr=True)
    with (
        httpx.Client(base_url=wanted.url, headers=headers, timeout=30, trust_env=False) as client,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        sender = Sender(client)
        sender.wait()
        for number, (row, label) in progress.track(numbered, description=f"sending {wanted.images} pictures"):
            sender.send(number, row, label)
            if not wanted.truths and len(sender.untold) == TRUTHS_AT_ONCE:
                sender.tell()
        if not wanted.truths and sender.untold:
            sender.tell()
    for version, count in sorted(sender.answered.items()):
        print(f"version {version} answered {count:,} requests, {sender.right[version] / count:.3f} of them right")
    if wanted.truths:
        with wanted.truths.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["prediction_id", "truth"])
            writer.writeheader()
            writer.writerows(sender.untold)
        print(f"the truths are in {wanted.truths}")
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if wanted.until_now:
        end_period(wanted.until_now, now)
    print(f"all of it was before {now}")


if __name__ == "__main__":
    main()
