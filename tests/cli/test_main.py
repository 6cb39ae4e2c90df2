"""The commands as a person or a script runs them, on the shipped configuration."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway import __version__
from gateway.cli.main import COMMANDS
from gateway.routing.buckets import bucket_of
from tests.backends import onnx_models

ROOT = Path(__file__).parents[2]
PREDICTS = {
    "digits": "classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    "tickets": "classes: account, billing, returns, shipping, technical",
    "tumor": "classes: malignant, benign",
}
CPU = ["CPUExecutionProvider"]
SHIPPED = [(name, version) for name in ("digits", "tickets", "tumor") for version in (1, 2)]


def gateway(*arguments: str, code: int = 0, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`gateway` with `arguments`, run in `folder`, which must end with `code`."""
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == code, (ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    return ended


def explained(*arguments: str) -> Any:
    return json.loads(gateway("explain", *arguments, "--json").stdout)


def test_check_accepts_the_shipped_files() -> None:
    lines = gateway("check").stdout.splitlines()
    for name, version in SHIPPED:
        assert any({name, str(version), "ready"} <= set(line.split()) for line in lines), (name, version)


def test_check_json_reports_the_shipped_files_as_ok() -> None:
    ended = gateway("check", "--json", "--config", "config/gateway.yaml")
    assert json.loads(ended.stdout) == {
        "ok": True,
        "versions": [
            {
                "model": name,
                "version": version,
                "error": None,
                "warning": None,
                "runs_on": CPU,
                "in_threads": None,
                "predicts": [PREDICTS[name]],
                "not_measured": [],
            }
            for name, version in SHIPPED
        ],
        "warnings": [],
    }


def test_check_routing_option_checks_a_draft_file(tmp_path: Path) -> None:
    onnx_models.doubling(tmp_path / "models" / "fine" / "1" / "model.onnx")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").touch()
    (tmp_path / "config" / "routing.yaml").touch()
    (tmp_path / "draft.yaml").write_text("models: {fine: {stable: 2}}")
    gateway("check", folder=tmp_path)
    ended = gateway("check", "--routing", "draft.yaml", code=1, folder=tmp_path)
    assert "models.fine: version 2" in ended.stderr
    (tmp_path / "draft.yaml").write_text("models: {fine: {stable: 1, wait: 5}}")
    assert "draft.yaml" in gateway("check", "--routing", "draft.yaml", code=1, folder=tmp_path).stderr


def test_check_json_reports_what_is_broken(tmp_path: Path) -> None:
    onnx_models.doubling(tmp_path / "models" / "fine" / "1" / "model.onnx")
    broken = tmp_path / "models" / "broken" / "4" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"this is no model")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").touch()
    (tmp_path / "config" / "routing.yaml").touch()
    ended = gateway("check", "--json", code=1, folder=tmp_path)
    document = json.loads(ended.stdout)
    assert [(row["model"], row["version"], row["error"] is None) for row in document["versions"]] == [
        ("broken", 4, False),
        ("fine", 1, True),
    ]
    assert (document["ok"], "broken/4/model.onnx" in document["versions"][0]["error"]) == (False, True)
    assert ended.stderr.startswith("models.broken: version 4: ")


def test_check_says_how_many_failures_a_ramp_needs(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").touch()
    entry = "{stable: 1, candidate: 2, ramp: {weights: [10, 100]}, split: {routes: [{name: everyone, weight: ramp}]}}"
    for name in ("a", "b"):
        for version in (1, 2):
            onnx_models.doubling(tmp_path / "models" / name / str(version) / "model.onnx")
    (tmp_path / "config" / "routing.yaml").write_text(f"models: {{a: {entry}, b: {entry}}}")
    document = json.loads(gateway("check", "--json", folder=tmp_path).stdout)
    said = (
        "models.a.ramp and 1 more: `advance: safe`: each step waits for failures of stable and candidate, about 670 at"
    )
    assert [note.startswith(said) for note in document["notes"]] == [True] and document["ok"]


def test_check_refuses_a_guard_that_can_never_act(tmp_path: Path) -> None:
    onnx_models.doubling(tmp_path / "models" / "fine" / "1" / "model.onnx")
    onnx_models.doubling(tmp_path / "models" / "fine" / "2" / "model.onnx")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").touch()
    guards = "{comparisons: [{name: a, metric: failures}, {name: b, metric: predicted_class}]}"
    (tmp_path / "config" / "routing.yaml").write_text(
        f"models: {{fine: {{stable: 1, candidate: 2, guards: {guards}}}}}"
    )
    ended = gateway("check", "--json", code=1, folder=tmp_path)
    document = json.loads(ended.stdout)
    (problem,) = document["guards"]
    assert not document["ok"]
    assert problem.startswith("models.fine.guards.comparisons[1]: predicted_class can never act: version 1: ")
    assert ended.stderr.strip() == problem


def test_explain_prints_the_route_of_a_pilot_customer() -> None:
    bucket = f"{bucket_of('digits-2', 'acme'):,}"
    lines = dict(line.split(None, 1) for line in gateway("explain", "digits", "--customer", "acme").stdout.splitlines())
    assert lines["model"] == "digits"
    assert lines["answer"] == "version 2 (candidate)"
    assert lines["route"] == "pilot"
    assert lines["weight"] == "100% to the candidate"
    assert lines["bucket"].startswith(f"{bucket} ")
    assert f"customer 'acme' is in bucket {bucket}" in lines["why"]
    assert lines["✓"] == "pilot: customer is 'acme', matching one of acme, globex"


def test_explain_json_for_a_pilot_customer() -> None:
    document = explained("digits", "--customer", "acme")
    assert "candidate answers" in document.pop("why")
    assert document == {
        "model": "digits",
        "version": 2,
        "variant": "candidate",
        "route": "pilot",
        "bucket": bucket_of("digits-2", "acme"),
        "weight_ppm": 1_000_000,
        "propensity": 1.0,
        "key": "acme",
        "key_source": "customer",
        "salt": "digits-2",
        "routes": [
            {"route": "pilot", "matched": True, "reason": "customer is 'acme', matching one of acme, globex"},
        ],
    }


@pytest.mark.parametrize(
    ("arguments", "route", "weight_ppm"),
    [
        (["digits", "--customer", "joe", "--header", "X-Region=eu-west"], "eu-images", 100_000),
        (["digits", "--customer", "joe", "--header", "x-region=us", "--header", "x=y"], "everyone", 50_000),
        (["digits", "--customer", "joe", "--modality", "text", "--header", "x-region=eu-1"], "everyone", 50_000),
        (["tickets", "--customer", "beta-7"], "beta", 500_000),
        (["tickets", "--customer", "joe", "--parameter", "a=b"], "default", 0),
    ],
)
def test_explain_chooses_the_route_by_the_request_attributes(arguments: list[str], route: str, weight_ppm: int) -> None:
    document = explained(*arguments)
    assert (document["route"], document["weight_ppm"]) == (route, weight_ppm)
    below = document["bucket"] < weight_ppm
    assert (document["version"], document["variant"]) == ((2, "candidate") if below else (1, "stable"))
    assert document["routes"][-1]["matched"] is (route != "default")


def test_explain_without_a_customer_splits_by_prediction_id() -> None:
    chance = explained("digits")
    assert (chance["version"], chance["bucket"], chance["key_source"]) == (None, None, "prediction")
    assert "at random" in gateway("explain", "digits").stdout
    decided = explained("digits", "--key", "p-1")
    assert (decided["key"], decided["bucket"]) == ("p-1", bucket_of("digits-2", "p-1"))


def test_explain_of_a_ramp_points_to_live() -> None:
    ended = gateway("explain", "tumor", "--customer", "acme")
    assert "weight   0%" in ended.stdout
    assert ended.stderr.endswith("ask with --live\n")


def test_explain_refuses_an_unknown_model_and_lists_the_known_ones() -> None:
    ended = gateway("explain", "digit", code=1)
    assert (ended.stdout, ended.stderr) == ("", "there is no model 'digit'; there are digits, tickets, tumor\n")


@pytest.mark.parametrize("command", ["serve", "check", "explain"])
def test_help_of_each_command_describes_it(command: str) -> None:
    text = gateway(command, "--help").stdout
    assert f"gateway {command}" in text
    assert "config/gateway.yaml" in text


def test_help_lists_all_commands_on_one_line_each() -> None:
    lines = gateway("-h").stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in lines), "what it does, on one line"
    assert __version__ in gateway("--version").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain"],
        ["explain", "digits", "--header", "x-region"],
        ["check", "--jason"],
        ["serve", "now"],
        ["serv"],
    ],
)
def test_wrong_usage_exits_with_2_and_prints_usage(arguments: list[str]) -> None:
    ended = gateway(*arguments, code=2)
    assert "Usage:" in ended.stderr


def test_missing_configuration_file_is_reported_with_a_remedy(tmp_path: Path) -> None:
    for command in (["serve"], ["explain", "digits"]):
        assert gateway(*command, code=1, folder=tmp_path).stderr == (
            "config/gateway.yaml: there is no such file; run in the project's folder, or name another file\n"
        )


def test_serve_on_a_port_in_use_exits_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "gateway.yaml"
        config.write_text(f"server: {{port: {port}}}\n")
        ended = gateway("serve", "--config", str(config), code=1)
    (line,) = ended.stderr.splitlines()
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line
    assert "choose another host or port" in line


def test_stop_command_does_not_import_the_serving_code() -> None:
    code = "import gateway.cli.releases, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "gateway.cli.releases" in loaded
    assert {"numpy", "onnxruntime", "gateway.control.control_plane"}.isdisjoint(loaded)


@pytest.mark.parametrize(
    ("name", "said"), [("{{.Name}}", "'{{.Name}}'; names are letters"), ("", "''; names are letters")]
)
def test_serve_refuses_a_name_that_is_none(name: str, said: str) -> None:
    assert said in gateway("serve", "--model-name", name, code=2).stderr


def test_serve_names_only_a_mounted_model() -> None:
    assert "models.mounted: --model-name" in gateway("serve", "--model-name", "digits", code=1).stderr
    assert "models.mounted: --model-name" in gateway("serve", "--model-version", "2", code=1).stderr
