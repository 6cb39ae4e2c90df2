"""Any number of readiness requests ask a version's server once a second."""

import asyncio

import pytest

from gateway.worker.http.shared_readiness import VALID_S, SharedReadiness


class _Backend:
    """A server that answers once `go` is set, or fails with `error`."""

    def __init__(self) -> None:
        self.asked = 0
        self.ready = True
        self.error: Exception | None = None
        self.go = asyncio.Event()

    async def is_ready(self) -> bool:
        self.asked += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return self.ready


def test_one_check_for_all_until_it_is_a_second_old() -> None:
    async def scenario() -> None:
        now = [0.0]
        readiness, backend, other = SharedReadiness(lambda: now[0]), _Backend(), _Backend()
        asking = [asyncio.create_task(readiness.of(backend)) for _ in range(1000)]
        await asyncio.sleep(0)
        now[0] = 5.0  # a slow server: its answer is fresh when it comes
        asking.pop(0).cancel()  # the client that was first leaves
        backend.go.set()
        assert set(await asyncio.gather(*asking)) == {True}
        backend.ready = False
        now[0] += VALID_S / 2
        assert await readiness.of(backend)
        assert backend.asked == 1
        other.go.set()
        assert await readiness.of(other)
        now[0] += VALID_S / 2
        assert not await readiness.of(backend)
        assert (backend.asked, other.asked) == (2, 1)

    asyncio.run(scenario())


def test_failed_check_is_not_kept() -> None:
    async def scenario() -> None:
        readiness, backend = SharedReadiness(lambda: 0.0), _Backend()
        backend.go.set()
        backend.error = RuntimeError("broken")
        with pytest.raises(RuntimeError):
            await readiness.of(backend)
        backend.error = None
        assert await readiness.of(backend)

    asyncio.run(scenario())
