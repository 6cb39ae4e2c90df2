"""The image's recipe, without building it: what it copies exists, and what it ships is right."""

import re
import shlex
import tomllib
from pathlib import Path

from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import parse

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "container"
PIPELINES = ROOT / "config" / "pipelines"


def steps(name: str, folder: Path = FOLDER) -> list[list[str]]:
    """The words of each instruction of that name, of all stages."""
    text = re.sub(r"\\\n", " ", (folder / "Containerfile").read_text())
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith(f"{name} ")]


def test_copied_files_exist_and_are_not_ignored() -> None:
    seen = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    for *sources, _ in (words for words in steps("COPY") if not words[0].startswith("--from")):
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source.partition("/")[0] in seen, source


def test_both_stages_use_a_python_version_that_the_package_supports() -> None:
    images = {words[0] for words in steps("FROM")}
    (image,) = images
    version = tuple(map(int, re.fullmatch(r"python:(\d+)\.(\d+)-slim", image).groups()))  # type: ignore[union-attr]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert version >= tuple(map(int, wanted.removeprefix(">=").split(".")))


def test_image_runs_as_an_unprivileged_user_on_the_shipped_files() -> None:
    assert steps("USER") == [["10001:10001"]]
    (copied,) = (words for words in steps("COPY") if words[-1] == "/etc/canary-gateway/")
    assert copied == ["config/container/gateway.yaml", "config/routing.yaml", "/etc/canary-gateway/"]
    settings = parse((FOLDER / "gateway.yaml").read_text(), GatewaySettings, "")
    assert settings.server.host == "0.0.0.0"
    assert settings.routing == "/etc/canary-gateway/routing.yaml"
    assert [settings.state] in steps("VOLUME")
    assert ["models", settings.models.path] in steps("COPY")
    assert [str(settings.server.port)] in steps("EXPOSE")


def test_training_image_extends_the_gateways_by_the_tools_that_are_tested() -> None:
    assert steps("FROM", PIPELINES) == [["canary-gateway"]]
    assert steps("USER", PIPELINES)[-1] == ["10001:10001"]
    assert steps("COPY", PIPELINES) == [["config/pipelines", "/srv/config/pipelines"]]
    (installed,) = steps("RUN", PIPELINES)
    for tool in ("kfp", "polyaxon"):
        tested = (ROOT / "tests" / "tools" / f"{tool}.txt").read_text().splitlines()[0]
        assert re.sub(r"\[.*\]", "", tested) in installed
    (name,) = re.findall(
        r"(?m)^# podman build .* -t (canary-gateway-training:\S+)", (PIPELINES / "Containerfile").read_text()
    )
    for file in ("kubeflow/pipeline.py", "kubeflow/pipeline.yaml", "polyaxon/component.yaml"):
        assert set(re.findall(r"canary-gateway-training:[\d.]+", (PIPELINES / file).read_text())) == {name}
