"""A real MLServer with models of a runtime of our own."""

import json
from pathlib import Path
from typing import Final

from loadtests.free_port import free_port
from tests.servers.environments import MLSERVER, environment
from tests.servers.process import ServerProcess

RUNTIME: Final = '''\
"""y = factor * x; texts and truth values stay as they are. Data may be nested or flat."""

from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput


class Scaling(MLModel):
    async def load(self) -> bool:
        self.factor = self.settings.parameters.extra["factor"]
        return True

    async def predict(self, payload):
        (x,) = payload.inputs
        data = list(x.data)
        if self.factor != 1:
            data = [value * self.factor for value in data]
        output = ResponseOutput(name="y", shape=x.shape, datatype=x.datatype, data=data)
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=[output])
'''


def place(folder: Path, name: str, datatype: str, factor: int = 1, version: str | None = None) -> None:
    """Write a model y = factor · x on [n, width] where MLServer looks for it."""
    tensor = {"datatype": datatype, "shape": [-1, -1]}
    parameters = {"extra": {"factor": factor}, **({"version": version} if version is not None else {})}
    document = {
        "name": name,
        "implementation": "scaling.Scaling",
        "platform": "python",
        "inputs": [{"name": "x", **tensor}],
        "outputs": [{"name": "y", **tensor}],
        "parameters": parameters,
    }
    (folder / name).mkdir(parents=True)
    (folder / name / "model-settings.json").write_text(json.dumps(document))


class MLServerProcess(ServerProcess):
    """MLServer with the models in `folder`."""

    def __init__(self, folder: Path) -> None:
        (folder / "scaling.py").write_text(RUNTIME)
        program = environment("mlserver", MLSERVER) / "bin" / "mlserver"
        settings = {
            "MLSERVER_HTTP_PORT": "PORT",
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_GRPC_PORT": str(free_port()),
            "MLSERVER_METRICS_PORT": str(free_port()),
            "MLSERVER_PARALLEL_WORKERS": "0",
            "PYTHONPATH": str(folder),
        }
        super().__init__(folder, [str(program), "start", str(folder)], settings)
