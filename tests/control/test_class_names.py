"""The names of classes: those with which versions are in service, whatever model.yaml says meanwhile."""

from pathlib import Path

import pytest

from gateway.backends.repository import Repository
from gateway.control.class_names import ClassLabels, LoadedClassNames
from gateway.settings.model import ModelSettings
from gateway.settings.routing import ReleaseSettings


def settings(*labels: str, isolation: str | None = None) -> dict[str, ModelSettings]:
    said = {"prediction": {"output": "y", "labels": labels}, "isolation": isolation}
    return {"pets": ModelSettings.model_validate(said)}


def release(stable: int, candidate: int | None = None) -> dict[str, ReleaseSettings]:
    return {"pets": ReleaseSettings.model_validate({"stable": stable, "candidate": candidate})}


def test_names_are_those_with_which_a_version_was_put_in_force() -> None:
    names = LoadedClassNames()
    names.put_in_force(release(1), settings("cat", "dog"))
    names.put_in_force(release(1, 2), settings("wolf", "fox"))
    assert names.known == {("pets", 1): ("cat", "dog"), ("pets", 2): ("wolf", "fox")}
    before = names.known
    names.put_in_force(release(1, 2), settings("hen", "cock"))
    assert names.known is before
    names.put_in_force(release(1), settings("hen", "cock"))
    names.put_in_force(release(1, 2), settings("hen", "cock"))
    assert names.known == {("pets", 1): ("cat", "dog"), ("pets", 2): ("hen", "cock")}


@pytest.mark.parametrize(("isolation", "then"), [(None, ("wolf", "fox")), ("thread", ("cat", "dog"))])
def test_a_candidate_that_becomes_stable_is_loaded_again_unless_workers_have_it(
    isolation: str | None, then: tuple[str, ...]
) -> None:
    names = LoadedClassNames()
    names.put_in_force(release(1, 2), settings("cat", "dog", isolation=isolation))
    names.put_in_force(release(2), settings("wolf", "fox", isolation=isolation))
    assert names.known == {("pets", 1): ("cat", "dog"), ("pets", 2): then}


def test_names_of_a_model_that_is_loaded_again_are_those_of_now() -> None:
    names = LoadedClassNames()
    names.put_in_force(release(1, 2), settings("cat", "dog"))
    names.put_in_force(release(1, 2), settings("wolf", "fox"), {"pets"})
    assert set(names.known.values()) == {("wolf", "fox")}


def test_labels_of_a_version_that_is_not_served_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "pets" / "model.yaml"
    file.parent.mkdir()
    file.write_text("prediction: {output: y, labels: [")
    labels = ClassLabels(Repository(tmp_path))
    assert labels.of("pets", 1) == ()
    file.write_text("prediction: {output: y, kind: regression, range: [0, 1]}")
    assert len(labels.of("pets", 1)) > 2 and labels.of("pets", 1) is labels.of("pets", 1)
    labels.adopt({("pets", 1): ("cat", "dog")})
    assert labels.of("pets", 1) == ("cat", "dog")
