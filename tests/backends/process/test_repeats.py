"""A call that kills a stable version's process without being named is not repeated for ever."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gateway.backends.process import link as link_module
from gateway.backends.process.client import MAX_REPEATS
from gateway.errors import ModelFailed
from tests.backends.onnx_models import looping
from tests.backends.process.test_version_process import PATIENCE_S, on_uvloop, processes, soon_ns


def test_call_is_repeated_only_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "ALONE", SimpleNamespace(size=8, unpack=lambda _: (0,)))  # the cause is not named

    async def scenario() -> None:
        async with processes(tmp_path, looping) as found:
            backend = await found.backend(patient=True)
            item, losses = backend.submit({"x": np.array([2**62])}, soon_ns()), 0  # runs without end
            async with asyncio.timeout(PATIENCE_S):
                while not item.done():
                    link = backend._link
                    if link is not None and backend._calls and not link.held:
                        losses += 1
                        link.close()
                    await asyncio.sleep(0)
            assert losses == 1 + MAX_REPEATS
            with pytest.raises(ModelFailed, match=f"times: {losses}"):
                item.result()
            assert await asyncio.wait_for(backend.submit({"x": np.array([5])}, soon_ns()), PATIENCE_S)

    on_uvloop(scenario())
