"""Log lines: one entry stays one entry, whatever a client has put into it."""

import json
import logging
import subprocess
import sys
from datetime import datetime

import pytest

from gateway.logs import INDENT, HumanFormatter, JsonFormatter

FORGED = "2026-01-01 00:00:00,000 INFO control: all is well"
HOSTILE = [
    f"a\n{FORGED}",
    f"a\r{FORGED}",
    f"a\r\n{FORGED}",
    f"a\v{FORGED}",
    f"a\f{FORGED}",
    f"a\x1c{FORGED}",
    f"a\x85{FORGED}",
    f"a\u2028{FORGED}",
    f"a\u2029{FORGED}",
    "a\x1b[2J\x1b[31m",
    "a\x00b",
    "a\x9b31m",
    "a\x7f\x7f\x7f",
    "a\u202eb",
    "a\u2066b",
    'a", "level": "debug',
    "a\ud800b",
    "résumé 客户",
]


def record(message: str, *values: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("gateway.web", logging.WARNING, __file__, 1, message, values, None)
    made.__dict__.update(extra)
    return made


def raised() -> logging.LogRecord:
    try:
        raise ValueError(f"a\n{FORGED}")
    except ValueError:
        return logging.LogRecord("gateway", logging.ERROR, __file__, 1, "broken", (), sys.exc_info())


@pytest.mark.parametrize("message", HOSTILE)
def test_json_formatter_writes_one_printable_ascii_line(message: str) -> None:
    line = JsonFormatter("worker", 1).format(record("%s", message))
    assert line.isascii()
    assert line.isprintable()
    entry = json.loads(line)
    assert (entry["message"], entry["level"], entry["role"], entry["worker"]) == (message, "warning", "worker", 1)


@pytest.mark.parametrize("message", HOSTILE)
def test_human_formatter_indents_every_line_but_the_first(message: str) -> None:
    first, *more = HumanFormatter("worker", 1).format(record("%s", message)).splitlines()
    assert f" WARNING worker 1: {message[0]}" in first
    assert all(line.startswith(INDENT) for line in more)
    assert all(line.replace("\ud800", "").isprintable() for line in (first, *more))


def test_human_formatter_keeps_non_ascii_text_readable() -> None:
    text = HumanFormatter("control").format(record("wrong:\n%s", "config.yaml: résumé 客户"))
    assert text.endswith(f"WARNING control: wrong:\n{INDENT}config.yaml: résumé 客户")


def test_json_formatter_adds_time_and_request_ids() -> None:
    made = record("slow", prediction_id="p1", trace_id="0af7", request_id="a-1")
    entry = json.loads(JsonFormatter("control").format(made))
    assert datetime.fromisoformat(entry["time"]).timestamp() == pytest.approx(made.created, abs=1e-5)
    assert datetime.fromisoformat(entry["time"]).utcoffset() is not None
    assert (entry["prediction_id"], entry["trace_id"], entry["logger"]) == ("p1", "0af7", "gateway.web")
    assert entry["request_id"] == "a-1"
    assert "worker" not in entry


@pytest.mark.parametrize("request_id", HOSTILE)
def test_formatters_escape_a_forged_request_id(request_id: str) -> None:
    made = record("slow", prediction_id="p1", trace_id=None, request_id=request_id)
    first, *more = HumanFormatter("worker", 1).format(made).splitlines()
    assert " WARNING worker 1: slow [prediction_id=p1 request_id=" in first
    assert all(line.startswith(INDENT) for line in more)
    line = JsonFormatter("worker", 1).format(made)
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["request_id"] == request_id


def test_formatters_keep_a_traceback_whole_and_inside_its_entry() -> None:
    entry = json.loads(JsonFormatter("control").format(raised()))
    assert entry["message"] == "broken"
    assert entry["exception"].endswith(f"ValueError: a\n{FORGED}\n")
    _, *more = HumanFormatter("control").format(raised()).splitlines()
    assert more[-1] == INDENT + FORGED
    assert all(line.startswith(INDENT) for line in more)


def test_warning_is_logged_although_the_environment_makes_it_an_error() -> None:
    program = "import warnings; from gateway.logs import configure; configure('human', 'control'); warnings.warn('odd')"
    ended = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "WARNING control: " in ended.stderr
    assert "UserWarning: odd" in ended.stderr
