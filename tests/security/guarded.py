"""A gateway that requires keys, and a key for each kind of caller."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from gateway.auth.keyfile import add_key
from gateway.settings.keys import Scope
from loadtests import models
from tests.running import GatewayProcess

CALLERS: dict[str, tuple[str, tuple[Scope, ...]]] = {
    "predictor": ("acme", (Scope.PREDICT,)),
    "feeder": ("acme", (Scope.FEEDBACK,)),
    "operator": ("ops", (Scope.OPERATE,)),
    "reader": ("watch", (Scope.READ,)),
    "all": ("acme", tuple(scope for scope in Scope if scope is not Scope.DELEGATE)),
    "globex": ("globex", (Scope.PREDICT,)),
    "shop": ("shop", (Scope.PREDICT, Scope.FEEDBACK, Scope.DELEGATE)),
}
EXPIRED = "expired"
ROUTES = [{"name": "pilot", "match": [{"customer": "globex"}], "weight": 100}]
ROUTING = {"models": {"flawed": {"stable": 1, "candidate": 2, "split": {"routes": ROUTES}}}}
ROW = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 1.0, 2.0, 3.0]}
INFER = "/v2/models/flawed/infer"


def document(**parameters: Any) -> bytes:
    return json.dumps({"inputs": [ROW], "parameters": parameters}).encode()


@dataclass(frozen=True, slots=True)
class Guarded:
    """The gateway and the keys of its callers, by name."""

    gateway: GatewayProcess
    keys: dict[str, str]
    file: Path

    def ask(self, caller: str | None, method: str, url: str, **options: Any) -> httpx.Response:
        headers = {**options.pop("headers", {}), **bearer(self.keys[caller] if caller else None)}
        return httpx.request(method, url, headers=headers, timeout=30, **options)

    def infer(self, caller: str | None, body: bytes | None = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask(
            caller, "POST", self.gateway.url + INFER, content=document() if body is None else body, headers=named
        )


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


def make_keys(file: Path) -> dict[str, str]:
    """One for each caller, and one that expired yesterday."""
    now = datetime.now(UTC)
    keys = {name: add_key(file, customer, scopes, now, 3600)[0] for name, (customer, scopes) in CALLERS.items()}
    keys[EXPIRED] = add_key(file, "acme", tuple(Scope), now - timedelta(days=2), 86400)[0]
    return keys


def guarded(folder: Path, **settings: Any) -> Guarded:
    """Two workers; customer globex is assigned to the candidate, everyone else to stable."""
    models.flawed(folder / "models", "nan")
    keys = make_keys(folder / "keys.yaml")
    settings = {"auth": {"keys": str(folder / "keys.yaml")}, **settings}
    settings["server"] = {"workers": 2, "max_body": "1MiB", **settings.get("server", {})}
    gateway = GatewayProcess(folder, folder / "models", ROUTING, **settings)
    return Guarded(gateway, keys, folder / "keys.yaml")


def left_behind(running: Guarded) -> list[str]:
    """The files in which a key could be found: logs, records, decisions, whatever the gateway has written."""
    folder = running.file.parent
    secrets = [key.encode() for key in running.keys.values()]
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(secret in path.read_bytes() for secret in secrets)
    ]
