"""From recorded traffic to a candidate: python flow.py run. README.md beside this file says how."""

import html
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

USERS = ["METAFLOW_USER", "SUDO_USER", "USERNAME", "USER"]
if all(os.environ.get(name) in (None, "", "root") for name in USERS):
    raise SystemExit("Metaflow must know whose run it is, and does not take root: export METAFLOW_USER=your-name")

from metaflow import FlowSpec, Parameter, card, current, step  # noqa: E402
from metaflow.cards import Markdown  # noqa: E402

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[2] / "models"
GATEWAY = shutil.which("gateway") or str(Path(sys.executable).with_name("gateway"))
PYTHON = str(Path(GATEWAY).with_name("python"))  # of the same environment, which has what training needs


class DigitsFlow(FlowSpec):
    """Export the records of a period, train digits from them, check it, and propose it as a candidate."""

    gateway = Parameter("gateway", default="http://127.0.0.1:8002", help="the gateway's control plane")
    since = Parameter("since", default="2026-01-01T00:00:00Z", help="predictions from this time on")
    until = Parameter("until", default="", help="predictions before this time; by default the run's start")
    feedback_until = Parameter("feedback-until", default="", help="truths before this time; by default the run's start")
    own_rows = Parameter("own-rows", default=300, help="how many of the script's own pictures to train on too")
    at_least = Parameter("at-least", default=0.95, help="the accuracy on held-out pictures that a proposal needs")
    weight = Parameter("weight", default=10.0, help="the weight of the route everyone, in percent")
    replace = Parameter("replace", default=False, type=bool, help="also if another candidate is under way")

    @step
    def start(self):
        """Fix the period, so that the run says for ever what it learned from."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        self.period = ["--since", self.since, "--until", self.until or now]
        self.period += ["--feedback-until", self.feedback_until or now]
        self.folder = str(HERE / "runs" / current.run_id)
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        self.next(self.export)

    @step
    def export(self):
        self.ask("export", "--out", "dataset", *self.period)
        self.next(self.train)

    @step
    def train(self):
        shutil.rmtree(Path(self.folder, "version"), ignore_errors=True)  # of an attempt that failed
        training = [MODELS / "digits/train.py", "--dataset", "dataset", "--own-rows", self.own_rows]
        self.call(PYTHON, *training, "--out", "version", "--version", 1)
        self.training = json.loads(Path(self.folder, "version/1/training.json").read_text())
        self.next(self.check)

    @step
    def check(self):
        self.call(PYTHON, MODELS / "check.py", "digits", "version/1", "--at-least", self.at_least)
        self.next(self.analyze)

    @card(type="blank")
    @step
    def analyze(self):
        """The card shows where the versions in use are wrong."""
        self.ask("analyze", "--html", "analysis.html", *self.period, "--json", to="analysis.json")
        self.analysis = Path(self.folder, "analysis.html").read_text()
        frame = 'style="width: 100%; height: 90vh; border: 0"'
        current.card.append(Markdown(f'<iframe srcdoc="{html.escape(self.analysis)}" {frame}></iframe>'))
        self.next(self.propose)

    @step
    def propose(self):
        reason = f"{current.flow_name}/{current.run_id}"
        self.ask("propose", "version/1", "--weight", self.weight, "--reason", reason, *["--replace"] * self.replace)
        self.next(self.end)

    @step
    def end(self):
        print(f"accuracy on held-out pictures: {self.training['held_out_accuracy']}; files: {self.folder}")

    def ask(self, command, *words, to=None):
        """A command of the gateway that speaks to its control plane."""
        self.call(GATEWAY, command, "digits", *words, "--url", self.gateway, to=to)

    def call(self, *words, to=None):
        """Run a program in the run's folder, its output to a file there or to the log; the step fails where it does."""
        words = list(map(str, words))
        with open(Path(self.folder, to), "w") if to else nullcontext() as output:
            ended = subprocess.run(words, cwd=self.folder, stdout=output)
        if ended.returncode:
            raise SystemExit(f"this failed: {' '.join(words)}")


if __name__ == "__main__":
    DigitsFlow()
