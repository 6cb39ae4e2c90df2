"""What a server of the Open Inference Protocol says of one model, `tiny`, and what it always answers."""

from typing import Any, Final

NAME: Final = "tiny"
X: Final = {"name": "x", "datatype": "FP32", "shape": [-1, 64]}
Y: Final = {"name": "y", "datatype": "FP32", "shape": [-1, 10]}
SERVER: Final[dict[str, Any]] = {"name": "canned", "version": "1", "extensions": []}
MODEL: Final[dict[str, Any]] = {"name": NAME, "versions": ["1"], "platform": "none", "inputs": [X], "outputs": [Y]}
ANSWER: Final[dict[str, Any]] = {
    "model_name": NAME,
    "model_version": "1",
    "outputs": [{**Y, "shape": [1, 10], "data": [index / 8 for index in range(10)]}],
}
