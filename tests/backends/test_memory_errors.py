"""Which failures mean that memory is short just now, and which would happen at any time."""

import pytest

from gateway.backends.memory_errors import LARGE_PART, memory_bytes, model_failure
from gateway.errors import ModelFailed, NoMemory

BUFFER = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size {}"


@pytest.mark.parametrize("text", ["std::bad_alloc", "bad allocation", BUFFER.format(4096), "CUDA out of memory", ""])
def test_out_of_memory_error_becomes_no_memory(text: str) -> None:
    error = model_failure(RuntimeError(text) if text else MemoryError())
    assert isinstance(error, NoMemory)
    assert not str(error).endswith(": ")
    assert "ONNXRuntimeError" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "index out of bounds",
        "an allocation of seats has failed",
        BUFFER.format(memory_bytes() // LARGE_PART + 1),
        BUFFER.format(10**18),
    ],
)
def test_allocation_that_can_never_succeed_is_a_model_failure(text: str) -> None:
    assert type(model_failure(RuntimeError(text))) is ModelFailed
