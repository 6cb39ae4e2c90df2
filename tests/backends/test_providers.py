"""An execution provider that was requested and cannot be used: refused, or served with a warning."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from gateway.backends import cuda_libraries, providers
from gateway.backends.node_placement import all_on_cpu
from gateway.backends.onnx import OnnxSession
from gateway.errors import ModelUnavailable, SettingsError
from gateway.settings.load import parse
from gateway.settings.model import ModelSettings
from gateway.settings.providers import CPU, Provider
from tests.backends import onnx_models

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
ABSENT = next(name for name in onnxruntime.get_all_providers() if name not in onnxruntime.get_available_providers())
# As ONNX Runtime 1.31 writes them where CUDA's libraries are missing; the last line is from another thread.
MISSING = (
    "\x1b[1;31m2026-11-26 15:08:06.99 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()]"
    " /onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider&"
    " onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library"
    " libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file\n"
    "\x1b[m\n"
    "\x1b[0;93m2026-11-26 15:08:07.00 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:1295 Create]"
    " Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*.\x1b[m\n"
    "a line of another thread\n"
)


def providers_of(text: str) -> tuple[Provider, ...]:
    return parse(f"providers: {text}", ModelSettings, "model.yaml").providers


def test_session_reports_the_provider_it_runs_on(tmp_path: Path) -> None:
    session = OnnxSession(onnx_models.doubling(tmp_path / "model.onnx"), 1, [CPU])
    assert (session.providers, session.warning) == (("CPUExecutionProvider",), "")


def test_provider_missing_from_the_build_is_refused_unless_cpu_is_listed(tmp_path: Path) -> None:
    file = onnx_models.doubling(tmp_path / "model.onnx")
    with pytest.raises(
        ModelUnavailable, match=f"provider {ABSENT} is not in .*; install a build with it.*, or list CPU"
    ):
        OnnxSession(file, 1, [ABSENT])
    session = OnnxSession(file, 1, [ABSENT, CPU])
    assert session.providers == (CPU.name,)
    assert session.warning.startswith(
        f"{ABSENT} cannot be used, it runs on {CPU.name}: this onnxruntime is built without"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CUDA", CUDA),
        ("cuda", CUDA),
        ("CudaExecutionProvider", CUDA),
        ("CPUExecutionProvder", CPU.name),
        ("cpu", CPU.name),
    ],
)
def test_misspelt_provider_is_refused_with_a_suggestion(tmp_path: Path, name: str, meant: str) -> None:
    with pytest.raises(ModelUnavailable, match=rf"did you mean {meant}\?"):
        OnnxSession(onnx_models.doubling(tmp_path / "model.onnx"), 1, [name, CPU])


def test_unused_returns_the_providers_the_session_did_not_take() -> None:
    assert providers.unused([Provider(CUDA, {}), CPU], [CPU.name]) == [CUDA]
    assert providers.unused([Provider(CUDA, {"device_id": "1"}), CPU], [CUDA, CPU.name]) == []


class Lacking:
    """Stands for a build with CUDA on a machine that lacks the CUDA libraries, as the test machines do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[str]] = []
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU.name])
        self._session = providers._session
        monkeypatch.setattr(providers, "_session", self)

    def __call__(self, path: Path, options: object, wanted: list[Provider]) -> object:
        names = [provider.name for provider in wanted]
        self.asked.append(names)
        if TENSORRT in names:
            raise RuntimeError("/src/state.cc:729 void f(A&, const B&) Please install TensorRT.\n")
        if CUDA in names:
            os.write(2, MISSING.encode())
        return self._session(path, options, [CPU])


def test_missing_cuda_libraries_are_refused_with_the_library_s_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Lacking(monkeypatch)
    with pytest.raises(ModelUnavailable) as caught:
        OnnxSession(onnx_models.doubling(tmp_path / "model.onnx"), 1, [CUDA])
    assert str(caught.value).startswith(
        f"{tmp_path}/model.onnx: {CUDA} cannot be used: Failed to load library libonnxruntime_providers_cuda.so with"
        " error: libcublasLt.so.13: cannot open shared object file; Failed to create CUDAExecutionProvider. Require"
        " cuDNN 9.* and CUDA 13.*; fix that, or add CPUExecutionProvider to providers in model.yaml"
    )
    assert "a line of another thread" in capfd.readouterr().err
    print("still there", file=sys.stderr)
    assert capfd.readouterr().err == "still there\n"


def test_missing_cuda_libraries_are_a_warning_where_cpu_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lacking = Lacking(monkeypatch)
    session = OnnxSession(onnx_models.doubling(tmp_path / "model.onnx"), 1, [TENSORRT, CUDA, CPU])
    assert session.providers == (CPU.name,)
    assert session.warning.startswith(
        f"{TENSORRT} cannot be used, it runs on {CPU.name}: Please install TensorRT; {CUDA} "
    )
    assert "libcublasLt.so.13" in session.warning
    assert lacking.asked[0] == [TENSORRT, CUDA, CPU.name]


def test_damaged_file_is_not_reported_as_a_provider_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Lacking(monkeypatch)
    file = onnx_models.doubling(tmp_path / "model.onnx")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ModelUnavailable, match="ONNX Runtime cannot load it"):
        OnnxSession(file, 1, [CUDA, CPU])


def test_provider_options_are_passed_on_as_text() -> None:
    options = "{device_id: 0, use_tf32: false, cudnn_conv_algo_search: HEURISTIC, gpu_mem_limit: 2147483648}"
    as_text = {"device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "gpu_mem_limit": "2147483648"}
    assert providers_of(f"[{CUDA}: {options}, {CPU.name}]") == (Provider(CUDA, as_text), CPU)
    assert providers_of(f"[{{{CUDA}: }}]") == (Provider(CUDA, {}),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[7]", r"model.yaml: providers\[0\]: an entry is a provider's name, or one name with its options"),
        ("[A: {}, B: {}, 7]", r"providers\[2\]: an entry"),
        ("[{A: {}, B: {}}]", r"providers\[0\]: an entry"),
        ("[A: 3]", r"providers\[0\]: the options of A must be key: value pairs; they are 3"),
        ("[A: {b: [1]}]", r"providers\[0\]: option b of A must be text, a number, true or false; it is \[1\]"),
        ("[A, A: {}]", "providers: A is listed twice"),
        ("[]", "providers: name at least one provider"),
        ("A", "providers: must be a list"),
    ],
)
def test_malformed_provider_list_is_refused_with_its_path(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        providers_of(text)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}),
        (
            f"{CUDA}: {{cudnn_conv_algo_search: EXHAUSTIVE, gpu_mem_limit: 1073741824, device_id: 1}}",
            {
                "cudnn_conv_algo_search": "EXHAUSTIVE",
                "arena_extend_strategy": "kSameAsRequested",
                "gpu_mem_limit": "1073741824",
                "device_id": "1",
            },
        ),
        (f"{TENSORRT}: {{trt_fp16_enable: true}}", {"trt_fp16_enable": "1"}),
        (CPU.name, {}),
    ],
)
def test_cuda_gets_better_defaults_and_whatever_is_said(text: str, options: dict[str, str]) -> None:
    (provider,) = providers_of(f"[{text}]")
    assert providers.with_defaults(provider) == (provider.name, options)


def test_a_file_is_opened_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def noting(path: Path, options: object, wanted: list[Provider]) -> object:
        asked.append(wanted)
        return onnxruntime.InferenceSession(str(path), options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU.name])
    monkeypatch.setattr(providers, "_session", noting)
    OnnxSession(onnx_models.doubling(tmp_path / "model.onnx"), 1, [CUDA, CPU])
    assert asked[0] == [providers.with_defaults(Provider(CUDA, {})), CPU]


def test_libraries_that_pip_has_installed_are_loaded_and_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = Lacking(monkeypatch)
    monkeypatch.setattr(cuda_libraries, "_asked", threading.Event())
    loaded = []

    def preload() -> None:
        loaded.append(True)
        print("Failed to load libcufft.so.12")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    for _ in range(2):
        session = OnnxSession(onnx_models.doubling(tmp_path / "model.onnx"), 1, [CUDA, CPU])
        assert "libcublasLt.so.13" in session.warning
    assert loaded == [True]
    assert len(lacking.asked) == 5  # once more after it, and each time once to hear why
    assert "libcufft" not in capsys.readouterr().out


class Idle:
    """A session that stands for one with CUDA beside the CPU: which runs all, as ONNX Runtime itself tells."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return [CUDA, CPU.name]


def test_a_provider_that_runs_no_operator_is_refused_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = providers._session

    def idle(path: Path, options: object, wanted: list[Provider]) -> object:
        session = opened(path, options, [CPU])
        return session if wanted == [CPU] else Idle(session)

    monkeypatch.setattr(providers, "_session", idle)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU.name])
    file = onnx_models.doubling(tmp_path / "model.onnx")
    reason = "it has no kernel for any of the model's 1 operators"
    with pytest.raises(ModelUnavailable, match=f"{CUDA} cannot be used: {reason}.*; fix that, or add {CPU.name}"):
        OnnxSession(file, 1, [CUDA])
    session = OnnxSession(file, 1, [CUDA, CPU])
    assert session.providers == (CPU.name,)
    assert session.warning.startswith(f"{CUDA} cannot be used, it runs on {CPU.name}: {reason}")


def test_where_it_is_not_known_what_runs_where_nothing_is_held_against_it(tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(str(onnx_models.doubling(tmp_path / "model.onnx")), providers=[CPU])
    assert all_on_cpu(session, [Provider(CUDA, {})]) == 0  # not recorded
    assert all_on_cpu(object(), [Provider(CUDA, {})]) == 0  # an ONNX Runtime before 1.24
    assert all_on_cpu(session, [CPU]) == 0
