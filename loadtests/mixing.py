"""Kills and suspends a version's process and those that ask it, while each answer is checked to be its call's own."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.control.pool.version_processes import VersionProcesses

DEADLINE_S = 1200.0


@dataclass(frozen=True, slots=True)
class Mixed:
    """`answered` and `failed`: calls of the asker that is not killed. `killed`: askers. `wrong`: what an asker said of
    an answer that was not its own, "" if there was none.
    """

    answered: int
    failed: int
    killed: int
    suspensions: int
    wrong: str


async def mixed(processes: VersionProcesses, where: str, calls: int, seed: int, kill_share: float) -> Mixed:
    """One asker makes `calls` calls; three others are killed and replaced. `kill_share`: of the disturbances, the rest
    are suspensions. The process is one of those that `processes` looks after.
    """
    dice = random.Random(seed)
    killed = suspensions = 0
    with _asker(where, seed, calls) as lasting:
        others = [_start(where, seed + 1 + number, calls) for number in range(3)]
        try:
            end_s = time.monotonic() + DEADLINE_S
            while lasting.poll() is None and time.monotonic() < end_s:
                await asyncio.sleep(dice.uniform(0.05, 0.4))
                (process,) = processes
                target = dice.choice([process.pid, lasting.pid, *(one.pid for one in others if one.poll() is None)])
                if target is None:
                    continue
                if target != lasting.pid and dice.random() < kill_share:
                    os.kill(target, signal.SIGKILL)
                    killed += target != process.pid
                else:
                    suspensions += 1
                    await _suspend(target, dice.uniform(0.001, 0.05))
                for number, one in enumerate(others):
                    if one.poll() is not None:
                        if one.returncode != -signal.SIGKILL:
                            return Mixed(0, 0, killed, suspensions, one.communicate()[0] or "an asker ended")
                        _end(one)
                        others[number] = _start(where, dice.randrange(1 << 30), calls)
            out, _ = await asyncio.to_thread(lasting.communicate, timeout=60)
        finally:
            for one in others:
                _end(one)
    if lasting.returncode:
        return Mixed(0, 0, killed, suspensions, out)
    answered, failed = map(int, out.split())
    return Mixed(answered, failed, killed, suspensions, "")


async def _suspend(pid: int, seconds: float) -> None:
    try:
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def _start(where: str, seed: int, calls: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "loadtests.asker", where.replace("\0", "@"), str(seed), str(calls)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@contextmanager
def _asker(where: str, seed: int, calls: int) -> Iterator["subprocess.Popen[str]"]:
    process = _start(where, seed, calls)
    try:
        yield process
    finally:
        _end(process)


def _end(asker: "subprocess.Popen[str]") -> None:
    with asker:  # closes its pipe
        asker.kill()
