"""A version's archive: what is taken, what is refused, and that it unpacks as a proposal does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control.proposals.staged_version import StagedVersion
from gateway.errors import BodyTooLarge, ModelUnavailable, RegistryError
from gateway.registry.mlflow_client import MlflowClient, ModelVersion
from gateway.registry.mlflow_http import MlflowHttp
from gateway.registry.origin import Origin, read_origin
from gateway.registry.version_archive import MAX_DESCRIPTION_BYTES, origin_of, version_archive
from tests.registry.small_server import SmallRegistry

VERSION = ModelVersion(model="digits", version=2, source="models:/m-0123", run_id="r1", tags={})
BOMB = "flavors: {onnx: {data: &a [x]}}\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.fixture
def registry() -> Iterator[SmallRegistry]:
    with SmallRegistry() as serving:
        yield serving


def staged(registry: SmallRegistry, folder: Path, max_bytes: int = 1 << 20) -> Path:
    async def stage() -> None:
        client = MlflowClient(MlflowHttp(registry.url))
        folder.mkdir(exist_ok=True)
        version = StagedVersion(folder / "staged", 1 << 20)
        try:
            async for piece in version_archive(client, VERSION, max_bytes):
                version.write(piece)
            version.finish()
        finally:
            version.close()
            await client.close()

    asyncio.run(stage())
    return folder / "staged"


def test_all_files_of_a_version_and_its_origin_arrive(registry: SmallRegistry, tmp_path: Path) -> None:
    name = f"{'long/' * 3}{'n' * 150}.bin"  # longer than the fields of a tar's header
    registry.files |= {"weights.data": bytes(range(256)) * 1000, name: b"", "origin.json": b"{}"}
    folder = staged(registry, tmp_path)
    assert (folder / "weights.data").read_bytes() == registry.files["weights.data"]
    assert (folder / name).read_bytes() == b""
    found = read_origin(folder)
    assert found is not None
    assert found.url == registry.url
    assert found.same_version(origin_of(VERSION, "http://another-name-of-it"))
    assert (found.version, found.run_id, found.fetched_at[-1]) == ("2", "r1", "Z")


@pytest.mark.parametrize(
    ("mlmodel", "message"),
    [
        (
            "flavors: {python_function: {python_model: x.pkl}}",
            "flavor python_function, and is pickled: .* never unpickles",
        ),
        ("flavors: {sklearn: {pickled_model: model.pkl}, python_function: {}}", "is pickled"),
        ("flavors: {pytorch: {}}", "of the flavor pytorch; only the flavor onnx is taken"),
        ("flavors: {}", "of the flavor none"),
        ("flavors: {onnx: {data: other.onnx}}", r"its ONNX file is 'other.onnx'; it must be model.onnx"),
        ("flavors: {onnx: model.onnx}", "its ONNX file is not named"),
        ("flavors: [onnx]", "damaged"),
        ("- flavors", "damaged"),
        ("flavors: {onnx: ", "damaged"),
        ("!!python/object/apply:os.abort []", "damaged"),
        ("[" * 5000, "damaged"),
        (BOMB, "its ONNX file is not named"),
        ("#" * (MAX_DESCRIPTION_BYTES + 1), f"{MAX_DESCRIPTION_BYTES} are the limit"),
    ],
)
def test_only_the_onnx_flavor_is_taken(registry: SmallRegistry, tmp_path: Path, mlmodel: str, message: str) -> None:
    registry.files["MLmodel"] = mlmodel.encode()
    with pytest.raises(ModelUnavailable, match=message):
        staged(registry, tmp_path)
    assert not [call for call in registry.calls if "get-artifact" in call][1:], "no file but MLmodel is fetched"


def test_versions_without_what_is_needed_are_refused(registry: SmallRegistry, tmp_path: Path) -> None:
    with pytest.raises(BodyTooLarge, match="are the limit"):
        staged(registry, tmp_path / "large", max_bytes=10)
    del registry.files["model.onnx"]
    with pytest.raises(ModelUnavailable, match=r"must be model.onnx"):
        staged(registry, tmp_path / "model")
    del registry.files["MLmodel"]
    with pytest.raises(ModelUnavailable, match="has no file MLmodel"):
        staged(registry, tmp_path / "none")


def test_a_file_of_another_size_than_listed_is_refused(registry: SmallRegistry, tmp_path: Path) -> None:
    registry.answers["get-artifact"] = lambda handler, query: handler.send(b"another length")
    with pytest.raises(RegistryError, match=r"the listing says \d+ bytes of MLmodel, and 14 are sent"):
        staged(registry, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"registry": 7}', b"\xff", b'{"registry": "mlflow", "url": "u"}']
)
def test_a_file_that_is_no_origin_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "origin.json").write_bytes(content)
    assert read_origin(tmp_path) is None
    assert read_origin(tmp_path / "nowhere") is None


def test_a_registry_made_anew_has_another_version_of_that_number() -> None:
    one = Origin(registry="mlflow", url="u", model="digits", version="2", source="models:/m-1")
    assert not one.same_version(Origin(registry="mlflow", url="u", model="digits", version="2", source="models:/m-2"))
    assert not one.same_version(None)
