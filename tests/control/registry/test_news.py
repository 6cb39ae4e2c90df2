"""What one host of a fleet tells the others about the registry, and what these remember of it."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from gateway.control.registry.champion_move import ChampionMove
from gateway.control.registry.memory import ModelMemory, RegistryMemory
from gateway.control.registry.news import NO_NEWS, ModelNews, RegistryNews, adopt, document_of, news_of
from gateway.control.registry.step import Aliases, Here
from gateway.registry.mlflow_client import MlflowClient
from gateway.registry.mlflow_http import MlflowHttp

DIGITS = ModelNews(
    registered="digits", champion=1, challenger=3, stable=1, candidate=2, done_champion=1, done_challenger=None,
    to_tell=False, refused=3, why="it is bad", tags=(2, 5), written={2: "; evidence: here"},
    note="n", problem=True, pending=2,
)  # fmt: skip
NEWS = RegistryNews("it is away", 17.5, {"digits": DIGITS})


def write(path: Path, content: Callable[[], bytes]) -> None:
    path.write_bytes(content())


def test_what_is_told_is_read_again_as_json_brings_it() -> None:
    document = document_of(NEWS)
    assert orjson.loads(orjson.dumps(document)) == document  # so the leader sees that it has written it
    assert news_of(document) == NEWS
    assert news_of({}) == NO_NEWS


def test_keys_of_a_later_release_are_left_out_and_damage_is_refused() -> None:
    document = document_of(NEWS)
    document["models"]["digits"]["later"] = document["later"] = 7
    assert news_of(document) == NEWS
    del document["models"]["digits"]["to_tell"]
    assert news_of(document).models["digits"].to_tell, "the release before does not say it"
    del document["models"]["digits"]["registered"]
    with pytest.raises(ValueError, match="registered"):
        news_of(document)


def test_stops_that_another_host_has_told_of_are_not_told_again_and_resumes_are() -> None:
    memory = ModelMemory(registered="digits", tags={7: 70})
    assert adopt(memory, DIGITS, {2: 20, 3: 30})
    assert memory.tags == {2: 20, 5: 0}  # 3 is to be told; 5 is stopped no more, which is to be told; 7 was dealt with
    assert memory.written == {2: "; evidence: here"}
    assert not adopt(memory, DIGITS, {2: 20, 3: 30})
    assert adopt(memory, DIGITS, {3: 30})
    assert memory.tags == {2: 0, 5: 0}


@pytest.mark.parametrize(
    ("champion", "dealt_with", "left"),
    [
        (1, False, (2, 1)),  # the other host has not told the registry yet: this one has it to do if that ends
        (1, True, (None, None)),  # it has, and somebody has moved it back
        (2, False, (None, None)),
        (3, False, (None, None)),  # somebody has moved it elsewhere
    ],
)
def test_a_promotion_is_remembered_until_the_other_host_has_told_of_it(
    tmp_path: Path, champion: int, dealt_with: bool, left: tuple[int | None, int | None]
) -> None:
    kept = RegistryMemory(tmp_path, write)
    memory = ModelMemory(registered="digits", champion=1, stable=2, move_to=2, move_from=1)
    kept.add("digits", memory)
    move = ChampionMove(MlflowClient(MlflowHttp("http://127.0.0.1:1")), None, kept)  # type: ignore[arg-type]
    here = Here(stable=2, candidate=None, stops={})
    move.note_told(memory, Aliases(champion, None), here, dealt_with=dealt_with)
    assert (memory.move_to, memory.move_from) == left
