"""Which failures are for want of memory that is there at other times."""

import pytest

from gateway.backends.memory_errors import SHARE, failed, memory_bytes
from gateway.errors import ModelFailed, NoMemory

BUFFER = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size {}"


@pytest.mark.parametrize("text", ["std::bad_alloc", "bad allocation", BUFFER.format(4096), "CUDA out of memory", ""])
def test_want(text: str) -> None:
    error = failed(RuntimeError(text) if text else MemoryError())
    assert isinstance(error, NoMemory)
    assert not str(error).endswith(": ")
    assert "ONNXRuntimeError" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "index out of bounds",
        "an allocation of seats has failed",
        BUFFER.format(memory_bytes() // SHARE + 1),
        BUFFER.format(10**18),
    ],
)
def test_what_would_fail_whoever_else_runs_is_the_inputs(text: str) -> None:
    assert type(failed(RuntimeError(text))) is ModelFailed
