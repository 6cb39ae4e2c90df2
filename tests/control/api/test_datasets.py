"""Who takes a data set too slowly is cut off, and its job ends."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

import gateway.control.api.datasets as datasets
from gateway.control.api.datasets import JobResponse
from gateway.control.command_priority import CommandPriority
from gateway.control.records_jobs import FOLDER, JobProcess, RecordsJobs
from gateway.errors import NotReady
from gateway.records.job import JobHead, RecordsJob, parse_head, parse_job
from tests.processes.flawed import until
from tests.recording import MODELS, Recording, data, json_request

SCOPE: dict[str, Any] = {"type": "http"}


def job_of(folder: Path, jobs: RecordsJobs) -> RecordsJob:
    recording = Recording()
    recording.judge(recording.predict(json_request("digits", data("digits").test_x[:1])), 3)
    recording.save(folder / "records")
    return RecordsJob(
        kind="dataset",
        model="digits",
        state=str(folder),
        models=str(MODELS),
        scratch=jobs.scratch(),
        format="jsonl",
    )


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "seconds"), [("STALL_TIMEOUT_S", 2.0), ("GRACE_S", 0.0)])
def test_client_that_stops_reading_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: str, seconds: float
) -> None:
    monkeypatch.setattr(datasets, limit, seconds)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            await never()

    async def asked() -> None:
        jobs = RecordsJobs(tmp_path)
        response = JobResponse(jobs, job_of(tmp_path, jobs), {"content-type": datasets.TAR}, CommandPriority())
        await asyncio.wait_for(response(SCOPE, never, send), 60)
        while asyncio.all_tasks() - {asyncio.current_task()}:  # the job's end
            await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING):
        asyncio.run(asked())
    assert sent[0]["status"] == 200
    assert "is not sent to its end: the client takes it too slowly" in caplog.text
    until(lambda: not list((tmp_path / FOLDER).iterdir()), "the removal of the job's folder")


@pytest.mark.parametrize("said", [b"", b'{"status":200,"si', b"[1]\n", b'{"status":200,"length":3}\n', b"x" * 99_999])
def test_process_that_was_killed_amid_its_head_is_said(said: bytes) -> None:
    async def asked() -> None:
        job = RecordsJob(kind="dataset", model="m", state="s", models="m", scratch="x", format="jsonl")
        process = JobProcess(job)
        process.stream.feed_data(said)
        process.stream.feed_eof()
        await process.head()

    with pytest.raises(NotReady, match="has been killed"):
        asyncio.run(asked())


def test_jobs_and_heads_survive_the_pipe(tmp_path: Path) -> None:
    job = RecordsJob(
        kind="analysis",
        model="digits",
        state="s",
        models="m",
        scratch="x",
        format="json",
        since_ns=1,
        feedback_until_ns=2**62,
        variant="stable",
        with_feedback=True,
        flat=True,
    )
    assert parse_job(job.line()) == job
    head = JobHead(404, 0, "no 'ü'\nhere")
    assert head.line().count(b"\n") == 1
    assert parse_head(head.line()) == head
