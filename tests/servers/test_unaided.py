"""What the real servers do without a gateway: which of the datatypes they take, and in which form."""

from typing import Final

import httpx
import numpy as np
import pytest

from gateway.protocol.tensors import DATATYPES
from tests.conformance.test_tritonclient import InferenceServerException, ask, sample, texts
from tests.conformance.test_tritonclient import triton as client_module
from tests.servers.process import ServerProcess

pytestmark = pytest.mark.slow
FORMS: Final = [(binary_in, binary_out) for binary_in in (False, True) for binary_out in (False, True)]


def answered(server: ServerProcess) -> set[tuple[str, bool, bool]]:
    """For which datatype, sent in binary or not, asked for in binary or not, tritonclient gets its own tensor back."""
    found = set()
    with client_module.InferenceServerClient(server.address) as client:
        for datatype in DATATYPES:
            x = sample(datatype)
            for form in FORMS:
                try:
                    y = client.infer(**ask(client_module, f"identity_{datatype.lower()}", datatype, x, *form))
                except InferenceServerException:
                    continue
                same = texts(y.as_numpy("y")) == texts(x) if datatype == "BYTES" else np.array_equal(y.as_numpy("y"), x)
                assert same, f"{datatype} came back as something else"
                found.add((datatype, *form))
    return found


def test_triton_has_everything_but_json_of_fp16(triton: ServerProcess) -> None:
    everything = {(datatype, *form) for datatype in DATATYPES for form in FORMS}
    assert everything - answered(triton) == {("FP16", *form) for form in FORMS if form != (True, True)}


def test_mlserver_has_json_only(mlserver: ServerProcess) -> None:
    """It overlooks that a binary answer is asked for, and tritonclient reads either."""
    assert answered(mlserver) == {
        (datatype, False, binary_out) for datatype in DATATYPES for binary_out in (False, True)
    }
    assert httpx.get(f"{mlserver.url}/v2").json()["extensions"] == []


def test_versions_of_one_triton_model_differ(triton: ServerProcess) -> None:
    x = np.array([[1, 2]], np.float32)
    with client_module.InferenceServerClient(triton.address) as client:
        for version, factor in (("1", 2), ("2", 3), ("", 3)):
            asked = ask(client_module, "scaling", "FP32", x, True, True, model_version=version)
            assert np.array_equal(client.infer(**asked).as_numpy("y"), x * factor)
