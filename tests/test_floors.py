"""The layers: imports only go down, every module has its layer, and no file is too long."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gateway"
FLOORS = {
    "__main__": 8,
    "cli": 7,
    "worker": 6,
    "control": 6,
    "offline": 5,
    "messages": 5,
    "evidence": 4,
    "records": 4,
    "registry": 4,
    "web": 4,
    "backends": 3,
    "routing": 3,
    "auth": 3,
    "logs": 3,
    "settings": 2,
    "protocol": 2,
    "shm": 2,
    "errors": 1,
    "version_key": 1,
    "system": 1,
}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
LONGEST = 300
MOST_FLOORS = 8
MOST_ROOMS = 20
MOST_AT_THE_ROOT = 6


def name_of(path: Path) -> str:
    """`backends.batcher` for the file of that module; a package is named by its folder."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES if path != Path("__init__.py")}


def imported(path: Path) -> Iterator[str]:
    """The modules below `gateway` that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("gateway.") in NAMES else str(node.module) for name in inner]
        yield from (name.removeprefix("gateway.") for name in names if name.startswith("gateway."))


def room_of(name: str) -> str:
    """The room of a module, as the floors have it: `control` for `control.pool.orphans`."""
    return name.split(".")[0]


def inner_room_of(name: str) -> str:
    """The folder of a module; a file beside folders is a room of its own, as `control.supervisor` is."""
    folder = name.rpartition(".")[0]
    beside = any(other.startswith(f"{folder}.") and NAMES[other].name == "__init__.py" for other in NAMES)
    return name if not folder or beside else folder


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_import_only_from_lower_floors(path: Path) -> None:
    room = path.parts[0].removesuffix(".py")
    if room == "__init__":
        assert list(imported(path)) == []
        return
    assert room in FLOORS, f"{path} has no floor: give its room one"
    for name in imported(path):
        below = FLOORS[room_of(name)] < FLOORS[room]
        assert below or room_of(name) == room, (
            f"{path} (floor {FLOORS[room]}) imports {name} (floor {FLOORS[room_of(name)]})"
        )


def test_rooms_have_no_import_cycle() -> None:
    """Also those within a room: `control.release` may import `control.guards`, which then must not import it."""
    arrows: dict[str, set[str]] = {}
    for name, path in NAMES.items():
        room = inner_room_of(name)
        arrows.setdefault(room, set()).update({inner_room_of(other) for other in imported(path)} - {room})
    rooms = set(arrows)
    while ends := {room for room in rooms if not arrows[room] & rooms or not any(room in arrows[one] for one in rooms)}:
        rooms -= ends  # they import none that is left, or none that is left imports them
    assert {room: sorted(arrows[room] & rooms) for room in rooms} == {}


def test_package_is_within_its_size_limits() -> None:
    entries = {path.parts[0].removesuffix(".py") for path in MODULES if path != Path("__init__.py")}
    assert entries == FLOORS.keys()
    assert len(entries) <= MOST_ROOMS
    assert len(set(FLOORS.values())) <= MOST_FLOORS
    assert len([path for path in MODULES if len(path.parts) == 1]) <= MOST_AT_THE_ROOT


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_file_is_not_longer_than_the_limit(path: Path) -> None:
    assert len((PACKAGE / path).read_text().splitlines()) <= LONGEST
