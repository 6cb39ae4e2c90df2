"""A gateway on this machine that serves one model of MLflow, to try it."""

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import yaml
from mlflow.exceptions import MlflowException

from gateway.cli.mlflow.model import fetched_version
from gateway.cli.mlflow.planes import invalid
from gateway.settings.gateway import ControlSettings, ServerSettings
from gateway.settings.units import parse_name

PORTS: Final = {"port": ServerSettings().port, "control_port": ControlSettings().port}


def run_local(name: str, model_uri: str, flavor: str | None = None, config: dict[str, Any] | None = None) -> None:
    """Serve the model as version 1 of `name`, in the foreground, until Ctrl-C; nothing of it is left then.

    `config`: `port` of predictions (8000), `control_port` (8002). Raises MlflowException.
    """
    ports = _ports(config or {})
    try:
        parse_name(name)
    except ValueError as error:
        raise invalid(str(error)) from None
    with TemporaryDirectory(prefix="gateway-local-") as made:
        folder = Path(made)
        version = folder / "models" / name / "1"
        with fetched_version(model_uri, flavor) as archive:
            for file in archive.files:
                target = version / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.path, target)
        settings = _settings(folder, name, ports)
        click.echo(f"'{name}' is served at http://127.0.0.1:{ports['port']}/v2/models/{name} until Ctrl-C", err=True)
        code = _serve([sys.executable, "-m", "gateway", "serve", "--config", str(settings)])
    if code:
        raise MlflowException(f"the gateway has ended with {code}")


def _serve(command: list[str]) -> int:
    """Run the gateway until it ends, or is ended by SIGINT or SIGTERM to this process; its exit code."""
    process = subprocess.Popen(command)
    on_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if on_main else None
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        return process.wait()
    finally:
        if on_main:
            signal.signal(signal.SIGTERM, before)


def _settings(folder: Path, name: str, ports: dict[str, int]) -> Path:
    routing = folder / "routing.yaml"
    routing.write_text(yaml.safe_dump({"models": {name: {"stable": 1}}}))
    settings = {
        "server": {"port": ports["port"], "workers": 1},
        "control": {"port": ports["control_port"]},
        "models": {"path": str(folder / "models")},
        "state": str(folder / "state"),
        "routing": str(routing),
    }
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def _ports(config: dict[str, Any]) -> dict[str, int]:
    if unknown := sorted(config.keys() - PORTS.keys()):
        raise invalid(f"there is no setting {unknown[0]!r}; there are {', '.join(PORTS)}")
    try:
        return PORTS | {key: int(value) for key, value in config.items()}
    except ValueError:
        raise invalid(f"{', '.join(PORTS)} are numbers; given are {config}") from None
