"""A real Triton server with models of its Python back end.

The binary is the one in the wheel nvidia-pytriton, started without that package's Python part.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.servers.environments import TRITON, environment
from tests.servers.process import ServerProcess

TYPES: Final = {"BYTES": "TYPE_STRING"}  # of model_config.proto; the others only have a prefix
SHARED: Final = Path("/dev/shm")

MODEL: Final = '''\
"""y = factor * x, after some time; texts stay as they are. Without a factor it is the version plus one."""

import json
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        given = {key: item["string_value"] for key, item in json.loads(args["model_config"])["parameters"].items()}
        self.factor = int(given.get("factor", int(args["model_version"]) + 1))
        self.delay_s = float(given.get("delay_s", 0))

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        time.sleep(self.delay_s)
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        if self.factor != 1:
            x = (x * self.factor).astype(x.dtype)
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])
'''


@dataclass(frozen=True, slots=True)
class Scaling:
    """A model y = factor · x on [n, width] of one datatype, in these versions; `factor` None: the version plus one.

    `instances`: how many requests it works on at once. `delay_s`: what each takes longer.
    """

    datatype: str = "FP32"
    factor: int | None = None
    versions: Sequence[int] = (1,)
    width: int = -1
    delay_s: float = 0.0
    instances: int = 1


def identity(datatype: str) -> Scaling:
    return Scaling(datatype, 1)


def place(repository: Path, name: str, model: Scaling) -> None:
    """Write the model where Triton looks for it."""
    folder = repository / name
    for version in model.versions:
        (folder / str(version)).mkdir(parents=True)
        (folder / str(version) / "model.py").write_text(MODEL)
    (folder / "config.pbtxt").write_text(_config(model))


def _config(model: Scaling) -> str:
    data_type = TYPES.get(model.datatype, f"TYPE_{model.datatype}")
    tensor = f"data_type: {data_type}, dims: [-1, {model.width}]"
    parameters = {"delay_s": model.delay_s} | ({} if model.factor is None else {"factor": model.factor})
    return "\n".join(
        [
            'backend: "python"',
            "version_policy: {all {}}",
            f'input [{{name: "x", {tensor}}}]',
            f'output [{{name: "y", {tensor}}}]',
            f"instance_group [{{kind: KIND_CPU, count: {model.instances}}}]",
            *(f'parameters {{key: "{key}", value: {{string_value: "{value}"}}}}' for key, value in parameters.items()),
        ]
    )


class TritonProcess(ServerProcess):
    """Triton with the models in `repository`."""

    def __init__(self, folder: Path, repository: Path) -> None:
        server, libraries = _installed()
        self._prefix = f"gateway_test_{os.getpid()}_{id(self):x}_"
        command = [
            str(server / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={server / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--backend-config=python,shm-default-byte-size=1048576",
            "--http-address=127.0.0.1",
            "--http-port=PORT",
            "--allow-grpc=false",
            "--allow-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            "--disable-auto-complete-config",  # it would start each model twice
        ]
        path = f"{server.parents[4] / 'bin'}:{os.environ['PATH']}"  # the stub takes its Python from there
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, command, {"LD_LIBRARY_PATH": libraries, "PATH": path})

    def kill(self) -> None:
        super().kill()
        for left in SHARED.glob(f"{self._prefix}*"):  # of a server that was killed
            left.unlink()


def _installed() -> tuple[Path, str]:
    """The folder of the server, and where its libraries are."""
    packages = environment("triton", TRITON) / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    stub = server / "backends" / "python" / "triton_python_backend_stub"
    if not stub.exists():
        partial = stub.with_suffix(f".{os.getpid()}")
        shutil.copy(server / "python_backend_stubs" / sysconfig.get_python_version() / stub.name, partial)
        partial.rename(stub)
    libraries = f"{packages / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    _require(server / "bin" / "tritonserver", libraries)
    _require(stub, libraries)
    return server, libraries


def _require(program: Path, libraries: str) -> None:
    """Skip the test where a library of the system is missing, which fails in CI."""
    command = ["ldd", str(program)]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": libraries})
    missing = [line.split()[0] for line in ran.stdout.splitlines() if "not found" in line]
    if ran.returncode or missing:
        remedy = f"apt-get install libpython{sys.version_info.major}.{sys.version_info.minor}"
        pytest.skip(f"Triton's {program.name} cannot run here: {', '.join(missing) or ran.stderr}: {remedy}")
