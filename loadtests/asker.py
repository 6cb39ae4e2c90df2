"""Asks a version's process many different things, with random deadlines, and checks whose answer each one gets.

`python -m loadtests.asker SOCKET SEED CALLS`; "@" stands for the NUL of an abstract socket. The version doubles
its input. Prints how many calls were answered and how many failed; exit code 1 if an answer held another call's bytes.
"""

import asyncio
import os
import random
import sys
import time

import numpy as np
import uvloop

from gateway.backends.process.client import ProcessBackend
from gateway.errors import DeadlineExceeded, ModelUnavailable, Overloaded, ProcessLost
from gateway.shm.tally import Tally

AT_ONCE = 32
LOADED_WITHIN_S = 30.0
ROWS = (1, 1, 1, 2, 5)
WAIT_S = (0.0005, 0.002, 0.02, 1.0)


async def _ask(backend: ProcessBackend, dice: random.Random, count: int, seen: list[int]) -> None:
    for _ in range(count):
        rows = dice.choice(ROWS)
        value = np.float64(dice.random() * 10**6)
        x = (value + np.arange(rows * 2).reshape(rows, 2)).astype(np.float32)
        try:
            answer = await backend.submit({"x": x}, time.monotonic_ns() + int(dice.choice(WAIT_S) * 1e9))
        except (DeadlineExceeded, ProcessLost, Overloaded):
            seen[1] += 1
            while not backend.connected:
                await asyncio.sleep(0.01)
            continue
        if answer[0] is None or answer[0].tolist() != (x + x).tolist():
            print("another call's bytes", x.tolist(), answer[0])
            sys.stdout.flush()
            os._exit(1)
        seen[0] += 1


async def _main(where: str, seed: int, count: int) -> None:
    backend, seen = ProcessBackend(where, Tally(), patient=False), [0, 0]
    while not backend.connected:
        try:
            await backend.start(LOADED_WITHIN_S)
        except ModelUnavailable:  # its process has been killed while it loaded the version
            await asyncio.sleep(0.1)
    dice = random.Random(seed)
    await asyncio.gather(*(_ask(backend, dice, count // AT_ONCE, seen) for _ in range(AT_ONCE)))
    print(*seen)


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1].replace("@", "\0"), int(sys.argv[2]), int(sys.argv[3])))
