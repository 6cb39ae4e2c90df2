"""Opens sessions and finds out which of the requested execution providers they really use.

`get_available_providers()` lists what ONNX Runtime was built with. Whether a provider's libraries load and its device
exists shows only when a session is opened: ONNX Runtime writes the reason to its log and runs the model on the CPU. So
`get_providers()` of the session is checked, and if one is missing, the session is opened again to capture the reason.
"""

import contextlib
import difflib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import onnxruntime

from gateway.backends.cuda_libraries import preload_from_packages
from gateway.backends.node_placement import all_on_cpu
from gateway.errors import ModelUnavailable
from gateway.settings.providers import CPU, Provider

STDERR: Final = 2
_CUDA: Final = {  # the defaults search all algorithms for every new shape, and double the arena
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}
DEFAULTS: Final = {"CUDAExecutionProvider": _CUDA}
_LOG_LINE: Final = re.compile(r"\[[EWF]:onnxruntime:[^\]]*\]\s*(.*)")  # a line of ONNX Runtime's log, after the time
_SOURCE_LOCATION: Final = re.compile(r"^/\S+\.(?:cc|cpp|h):\d+ [^\[]*?\)\s+(?:\[ONNXRuntimeError\] : \d+ : \w+ : )?")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_stderr_lock: Final = threading.Lock()


def with_defaults(provider: Provider) -> Provider:
    """The provider with better defaults than ONNX Runtime's own, for options that model.yaml does not set."""
    return Provider(provider.name, {**DEFAULTS.get(provider.name, {}), **provider.options})


def open_session(path: Path, options: Any, wanted: Sequence[Provider]) -> tuple[Any, str]:
    """Open a session; returns it and a warning about requested providers it does not use: "" if it uses all.

    Raises ModelUnavailable if one is missing and the CPU, which would run the model instead, was not requested;
    otherwise whatever ONNX Runtime raises.
    """
    cpu_allowed = CPU.name in (provider.name for provider in wanted)
    absent = _not_built(wanted, cpu_allowed)
    if absent:
        session, _ = open_session(path, options, [provider for provider in wanted if provider.name not in absent])
        return session, _fallen_back(absent, "this onnxruntime is built without it", session.get_providers())
    try:
        session = _session(path, options, wanted)
    except Exception as error:
        if not cpu_allowed or wanted[0].name == CPU.name:
            raise
        with contextlib.suppress(Exception):  # if this fails too, the file is at fault, not the provider
            session, others = open_session(path, options, wanted[1:])
            first = _fallen_back([wanted[0].name], _plain(str(error)), session.get_providers())
            return session, f"{first}; {others}" if others else first
        raise
    in_use = session.get_providers()
    missing = unused(wanted, in_use)
    if missing and preload_from_packages(missing):
        return open_session(path, options, wanted)
    if missing:
        reason = _reason(path, options, wanted)
    elif operators := all_on_cpu(session, wanted):
        missing = [provider.name for provider in wanted if provider.name != CPU.name]
        reason = f"it has no kernel for any of the model's {operators} operators, all of which run on the CPU"
        session, in_use = (_session(path, options, [CPU]), [CPU.name]) if cpu_allowed else (session, in_use)
    else:
        return session, ""
    if not cpu_allowed:
        raise ModelUnavailable(
            f"{' and '.join(missing)} cannot be used: {reason}; fix that, or add {CPU.name} to providers in"
            " model.yaml to run it on the CPU instead"
        )
    return session, _fallen_back(missing, reason, in_use)


def _not_built(wanted: Sequence[Provider], cpu_allowed: bool) -> list[str]:
    """The requested providers that ONNX Runtime was built without.

    Raises ModelUnavailable if the CPU may not run the model instead (`cpu_allowed`), or if a name is unknown.
    """
    available, known = onnxruntime.get_available_providers(), onnxruntime.get_all_providers()
    absent = unused(wanted, available)
    for name in absent:
        if not cpu_allowed or name not in known:
            there = ", ".join(available)
            raise ModelUnavailable(f"provider {name} is not in this onnxruntime; it has {there}{_hint(name, known)}")
    return absent


def _hint(name: str, known: Sequence[str]) -> str:
    if name in known:
        wheel = ": CUDA is in the package onnxruntime-gpu" if name.startswith(("CUDA", "Tensorrt")) else ""
        return f"; install a build with it{wheel}, or list {CPU.name} too"
    stems = {_stem(each): each for each in known}
    close = difflib.get_close_matches(_stem(name), stems, n=1) or difflib.get_close_matches(name, known, 1, 0.9)
    return f"; did you mean {stems.get(close[0], close[0])}?" if close else ""


def _stem(name: str) -> str:
    return name.casefold().removesuffix("provider").removesuffix("execution")


def _fallen_back(missing: Sequence[str], reason: str, in_use: Sequence[str]) -> str:
    return f"{' and '.join(missing)} cannot be used, it runs on {' and '.join(in_use)}: {reason}"


def _session(path: Path, options: Any, providers: Sequence[Provider]) -> Any:
    """A session without the Python wrapper's own fallback, which prints to stdout and does not tell its caller."""
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)


def unused(wanted: Sequence[Provider], in_use: Sequence[str]) -> list[str]:
    """The names of the providers that were requested and are not used."""
    return [provider.name for provider in wanted if provider.name not in in_use]


def _reason(path: Path, options: Any, wanted: Sequence[Provider]) -> str:
    """The reason that ONNX Runtime logs while it opens such a session."""
    try:
        with _captured_stderr() as words:
            _session(path, options, wanted)
    except Exception as error:
        return _plain(str(error))
    return "; ".join(dict.fromkeys(words)) or "ONNX Runtime does not say why"


@contextlib.contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """Capture what ONNX Runtime writes to standard error. Other lines are passed on when the block ends."""
    words: list[str] = []
    with _stderr_lock, tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        before = os.dup(STDERR)
        try:
            os.dup2(captured.fileno(), STDERR)
            yield words
        finally:
            sys.stderr.flush()
            os.dup2(before, STDERR)
            words += _split_log(captured, before)
            os.close(before)


def _plain(words: str) -> str:
    """The text without the location in ONNX Runtime's source that it begins with."""
    return " ".join(_SOURCE_LOCATION.sub("", words).split()).rstrip(".")


def _split_log(captured: IO[bytes], others: int) -> Iterator[str]:
    captured.seek(0)
    for line in captured:
        found = _LOG_LINE.search(_COLOUR.sub("", line.decode(errors="replace")))
        if found:
            yield _plain(found[1])
        else:
            os.write(others, line)
