"""The registry's client against a small server that answers as it should, and as it never should."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from gateway.errors import RegistryError, RegistryNotFound, RegistrySilent, RegistryUnavailable
from gateway.registry.mlflow_client import MAX_FILES, MAX_LISTINGS, MAX_TEXT, MlflowClient, ModelVersion, RegistryFile
from gateway.registry.mlflow_http import MAX_JSON_BYTES, MlflowHttp
from tests.registry.small_server import Answer, Handler, SmallRegistry

VERSION = ModelVersion(model="digits", version=2, source="models:/m-0123", run_id="", tags={})
Ask = Callable[[MlflowClient], Awaitable[Any]]


@pytest.fixture
def registry() -> Iterator[SmallRegistry]:
    with SmallRegistry() as serving:
        yield serving


def ask(registry: SmallRegistry, what: Ask, **settings: Any) -> Any:
    async def asked() -> Any:
        client = MlflowClient(MlflowHttp(registry.url, **{"timeout_s": 5.0, "piece_timeout_s": 5.0, **settings}))
        try:
            return await what(client)
        finally:
            await client.close()

    return asyncio.run(asked())


def aliases(client: MlflowClient) -> Awaitable[dict[str, int]]:
    return client.aliases("digits")


def listing(client: MlflowClient) -> Awaitable[list[RegistryFile]]:
    return client.files(VERSION)


async def content(client: MlflowClient) -> bytes:
    async with client.download(VERSION, "model.onnx") as download:
        return b"".join([chunk async for chunk in download.chunks(4)])


def test_aliases_versions_and_files_are_read(registry: SmallRegistry) -> None:
    registry.aliases = {"champion": "1", "challenger": "2"}
    registry.files |= {"data/labels/names.txt": b"one\n", ".hidden/x": b"", "__pycache__/y.pyc": b""}
    assert ask(registry, aliases) == {"champion": 1, "challenger": 2}
    assert ask(registry, lambda client: client.version("digits", 2)) == VERSION
    assert ask(registry, listing) == [
        RegistryFile("MLmodel", len(registry.files["MLmodel"])),
        RegistryFile("data/labels/names.txt", 4),
        RegistryFile("model.onnx", 4),
    ]
    assert ask(registry, content) == b"onnx"


def test_the_token_is_a_bearers_or_a_password(registry: SmallRegistry) -> None:
    ask(registry, aliases, token="fake-token")
    ask(registry, aliases, token="fake-token", user="gateway")
    assert [one["authorization"] for one in registry.headers] == ["Bearer fake-token", "Basic Z2F0ZXdheTpmYWtlLXRva2Vu"]


@pytest.mark.parametrize(
    ("source", "path", "query"),
    [
        ("runs:/abc/model", "/api/2.0/mlflow/artifacts/list", {"run_id": "abc", "path": "model"}),
        ("mlflow-artifacts:/0/abc/artifacts", "/api/2.0/mlflow-artifacts/artifacts", {"path": "0/abc/artifacts"}),
        ("mlflow-artifacts://host:5000/0/abc", "/api/2.0/mlflow-artifacts/artifacts", {"path": "0/abc"}),
        ("s3://bucket/abc/artifacts/model", "/api/2.0/mlflow/artifacts/list", {"run_id": "abc", "path": "model"}),
    ],
)
def test_files_are_listed_by_the_call_that_knows_their_place(
    registry: SmallRegistry, source: str, path: str, query: dict[str, str]
) -> None:
    queries = []

    def list_them(handler: Handler, query: dict[str, str]) -> None:
        queries.append(query)
        handler.say({"files": [{"path": "any/where/model.onnx", "is_dir": False, "file_size": "4"}]})

    run = {"run": {"info": {"artifact_uri": "s3://bucket/abc/artifacts"}}}
    registry.answers = {
        path.rpartition("/")[2]: list_them,
        "get-download-uri": lambda handler, _: handler.say({"artifact_uri": source}),
        "runs/get": lambda handler, _: handler.say(run),
    }
    version = ModelVersion(model="digits", version=2, source=source, run_id="abc", tags={})
    assert ask(registry, lambda client: client.files(version)) == [RegistryFile("model.onnx", 4)]
    assert registry.calls[-1] == f"GET {path}"
    assert queries == [query]


def test_files_that_cannot_be_listed_are_refused_with_the_remedy(registry: SmallRegistry) -> None:
    registry.answers["get-download-uri"] = lambda handler, _: handler.say({"artifact_uri": "s3://bucket/x"})
    version = ModelVersion(model="digits", version=2, source="s3://bucket/x", run_id="", tags={})
    with pytest.raises(RegistryError, match=r"cannot list the files of version 2 of 'digits' at s3://bucket/x"):
        ask(registry, lambda client: client.files(version))


def says(document: Any, status: int = 200) -> Answer:
    return lambda handler, _: handler.say(document, status)


def sends(content: bytes, status: int = 200, **headers: Any) -> Answer:
    return lambda handler, _: handler.send(content, status, **headers)


def registered(**said: Any) -> Answer:
    return says({"registered_model": {"name": "digits", **said}})


def drips(handler: Handler, query: dict[str, str]) -> None:
    """A header that goes on for ever, a byte at a time."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-long: ")
        for _ in range(2000):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.01)
    except OSError:
        handler.close_connection = True


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (sends(b"<html>"), RegistryUnavailable, "no JSON object; is this an MLflow server?"),
        (sends(b"["), RegistryUnavailable, "no JSON object"),
        (says([]), RegistryUnavailable, "no JSON object"),
        (sends(b'{"a":' * 2000), RegistryUnavailable, "no JSON object"),
        (sends(b" " * (MAX_JSON_BYTES + 1)), RegistryUnavailable, "larger than 1024 KiB"),
        (sends(b"{}", length=9), RegistryUnavailable, "cut off"),
        (sends(b"{}", content_encoding="gzip"), RegistryUnavailable, "compressed"),
        (sends(b"", 302, location="http://other/"), RegistryError, "redirects to http://other/, which is not followed"),
        (sends(b"", 302, location="http://\x1b[2J"), RegistryUnavailable, r"Invalid URL.*\\x1b"),
        (says({"message": "who are you\x1b"}, 401), RegistryError, r"answers 401: who are you\\x1b; look at registry"),
        (sends(b"nginx", 404), RegistryUnavailable, "answers 404; is this an MLflow server?"),
        (says({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}, 404), RegistryNotFound, "404: none"),
        (says({"message": 7}, 503), RegistryUnavailable, "answers 503"),
        (says({}, 429), RegistryUnavailable, "answers 429"),
        (says({}), RegistryError, "something else"),
        (says({"registered_model": {"name": "other"}}), RegistryError, "something else"),
        (registered(aliases={}), RegistryError, "something else"),
        (registered(aliases=[7]), RegistryError, "something else"),
        (registered(aliases=[{"alias": "champion", "version": "0"}]), RegistryError, "no number that one can have"),
        (registered(aliases=[{"alias": "champion", "version": "99999999999"}]), RegistryError, "no number"),
        (registered(aliases=[{"alias": "champion", "version": "²"}]), RegistryError, "no number"),
    ],
)
def test_answers_that_should_not_come_are_errors(
    registry: SmallRegistry, answer: Answer, error: type[Exception], message: str
) -> None:
    registry.answers["registered-models/get"] = answer
    with pytest.raises(error, match=message) as raised:
        ask(registry, aliases)
    assert raised.type is error


def test_an_answer_that_drips_ends_at_a_deadline(registry: SmallRegistry) -> None:
    registry.answers["registered-models/get"] = drips
    with pytest.raises(RegistrySilent, match=r"no answer within 0\.2 s"):
        ask(registry, aliases, timeout_s=0.2)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    registry = SmallRegistry()
    registry._server.server_close()
    with pytest.raises(RegistrySilent, match="cannot be reached"):
        ask(registry, aliases)


def files(*paths: str, **more: Any) -> Answer:
    return says({"files": [{"path": path, "is_dir": False, "file_size": 1} for path in paths], **more})


def nested(handler: Handler, query: dict[str, str]) -> None:
    handler.say({"files": [{"path": "again", "is_dir": True}]})


def wide(handler: Handler, query: dict[str, str]) -> None:
    folders = [] if query else [{"path": f"f{number}", "is_dir": True} for number in range(MAX_LISTINGS)]
    handler.say({"files": folders})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (files(".."), "name cannot be one: '..'"),
        (files("x/../.."), "name cannot be one"),
        (files(""), "name cannot be one: ''"),
        (files("a\\b"), "name cannot be one"),
        (files("a\x1bb"), "name cannot be one"),
        (files("a" * 201), "name cannot be one"),
        (says({"files": [7]}), "name cannot be one"),
        (says({"files": {}}), "something else"),
        (files("a", "b/a"), "names a file twice"),
        (files(*(f"f{number}" for number in range(MAX_FILES + 1))), "more than 1000 files"),
        (files(next_page_token="more"), "more than 100 calls"),
        (nested, "more than 4 deep"),
        (wide, "more than 100 calls"),
        (says({"files": [{"path": f".{number}"} for number in range(2000)]}), "a folder of 2000 files"),
    ],
)
def test_listings_of_a_hostile_server_are_refused(registry: SmallRegistry, answer: Answer, message: str) -> None:
    registry.answers["directories"] = answer
    with pytest.raises(RegistryError, match=message):
        ask(registry, listing)


def of_source(source: str, run_id: str = "") -> Answer:
    return lambda handler, query: handler.say({"model_version": {**query, "source": source, "run_id": run_id}})


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("s3://key:secret@bucket/a@b?signature=secret#x", "s3://bucket/a@b"),
        ("models:/m-0123", "models:/m-0123"),
        ("/files/a@b?c", "/files/a@b?c"),
    ],
)
def test_a_source_is_read_without_what_may_be_secret(registry: SmallRegistry, source: str, read: str) -> None:
    registry.answers["model-versions/get"] = of_source(source)
    assert ask(registry, lambda client: client.version("digits", 2)).source == read


@pytest.mark.parametrize("text", ["s3://\x1b[2J", "u" * (MAX_TEXT + 1)])
def test_a_text_that_cannot_be_shown_is_refused(registry: SmallRegistry, text: str) -> None:
    for answer in (of_source(text), of_source("s3://bucket", text)):
        registry.answers["model-versions/get"] = answer
        with pytest.raises(RegistryError, match="in the registry must be") as raised:
            ask(registry, lambda client: client.version("digits", 2))
        assert str(raised.value).isprintable() and len(str(raised.value)) < 250


def slow(handler: Handler, query: dict[str, str]) -> None:
    handler.send(b"o", length=4)
    handler.wfile.flush()
    handler.rfile.read(1)  # until the client goes away


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (sends(b"on", length=4), "cut off"),
        (sends(b"on"), "cut off after 2 of 4 bytes"),
        (sends(b"onnx!"), "more than the 4 bytes"),
        (slow, r"less than 1 MiB arrived within 0\.3 s"),
        (says({}, 500), "answers 500"),
        (sends(b"onnx", content_encoding="gzip"), "compressed"),
    ],
)
def test_files_that_do_not_arrive_whole_are_refused(registry: SmallRegistry, answer: Answer, message: str) -> None:
    registry.answers["get-artifact"] = answer
    with pytest.raises(RegistryUnavailable, match=message):
        ask(registry, content, piece_timeout_s=0.3)


def test_what_is_gone_already_counts_as_deleted(registry: SmallRegistry) -> None:
    ask(registry, lambda client: client.delete_alias("digits", "challenger"))
    ask(registry, lambda client: client.delete_tag("digits", 2, "gateway.stopped"))
    assert [call.split()[0] for call in registry.calls] == ["DELETE", "DELETE"]


def test_aliases_and_tags_are_set_and_deleted(registry: SmallRegistry) -> None:
    ask(registry, lambda client: client.set_alias("digits", "champion", 2))
    ask(registry, lambda client: client.set_tag("digits", 2, "gateway.stopped", "why"))
    assert ask(registry, aliases) == {"champion": 2}
    assert ask(registry, lambda client: client.version("digits", 2)).tags == {"gateway.stopped": "why"}
    ask(registry, lambda client: client.delete_alias("digits", "champion"))
    ask(registry, lambda client: client.delete_tag("digits", 2, "gateway.stopped"))
    assert (registry.aliases, registry.tags) == ({}, {"2": {}})
    registry.answers["alias"] = says({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no version 9"}, 404)
    with pytest.raises(RegistryNotFound, match="no version 9"):
        ask(registry, lambda client: client.set_alias("digits", "champion", 9))
