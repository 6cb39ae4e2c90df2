"""The plugin of `mlflow deployments` for the target `canary-gateway`.

MLflow loads this module by the entry point `mlflow.deployments`, and takes the one client class in it, `run_local` and
`target_help`. https://mlflow.org/docs/latest/ml/plugins/
"""

from collections.abc import Collection
from typing import Any, Final

from mlflow.deployments import BaseDeploymentClient, PredictionsResponse

from gateway.cli.fleet import spread_text, stopped_text
from gateway.cli.mlflow.local import run_local
from gateway.cli.mlflow.model import FLAVOR, fetched_version
from gateway.cli.mlflow.planes import FORM, Refused, invalid, planes_of
from gateway.cli.mlflow.tensors import predictions_of, request_body
from gateway.cli.version_archive import ARCHIVE_TYPE
from gateway.settings.units import parse_name

__all__ = ["CanaryGatewayClient", "run_local", "target_help"]

PROPOSE_KEYS: Final = ("weight", "ramp", "replace", "version", "reason")
UPDATE_KEYS: Final = ("weight", "route", "promote", "version", "reason")
DELETE_KEYS: Final = ("reason",)
EVERYONE: Final = "everyone"  # the route that a proposal's weight makes
MOST_EXPLAINED: Final = 1000  # rows
CONFLICT: Final = 409
_HELP: Final = f"""\
A canary-gateway's control plane: {FORM}
Without an address: the gateway on this machine. The key, where keys are on, is in $GATEWAY_API_KEY. Certificates are
checked by the system's trust; SSL_CERT_FILE names another.

A deployment is a model of the gateway, which is there already, with its stable version. Only the onnx flavor is served.

create   proposes the model as the release's candidate
         weight=PERCENT, or ramp=true; replace=true: also if another candidate is under way; version=N; reason=TEXT
update   with a model: the same, and it replaces the candidate under way unless replace=false
         without: weight=PERCENT [route={EVERYONE}], or promote=true [version=N: refuse if the candidate is another]
delete   stops the candidate; stable answers every request: reason=TEXT
list, get   what the gateway says of its releases
predict  by the routing rules; a table's columns are the inputs, or the features of the only input in their order
explain  which version answers, and why, a row for each request: the columns customer, modality, key, header:NAME and
         parameter:NAME
run-local   a gateway with this model only, until Ctrl-C: port=8000, control_port=8002
"""


def target_help() -> str:
    """What `mlflow deployments help` prints."""
    return _HELP


class CanaryGatewayClient(BaseDeploymentClient):  # type: ignore[misc]
    """Deploys to the gateway that the target URI names. All methods raise MlflowException."""

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)
        self._planes = planes_of(target_uri)

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: dict[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Propose the model as the candidate; returns once it was tried and every worker serves it.

        `config`: weight, ramp, replace, version, reason.
        """
        _refuse_endpoint(endpoint)
        path, query = f"/api/releases/{_checked(name)}/propose", _texts(config, PROPOSE_KEYS)
        with fetched_version(model_uri, flavor) as archive:
            headers = {"content-type": ARCHIVE_TYPE, "content-length": str(len(archive))}
            accepted = self._planes.upload(path, params=query, headers=headers, content=archive.chunks())
        kept = {key: accepted[key] for key in ("version", "replaced", "files", "bytes", "difference", "notes")}
        return _named(name, kept)

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: dict[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Propose another model in place of the candidate under way; without a model change the candidate's weight, or
        promote it.
        """
        _refuse_endpoint(endpoint)
        if model_uri is not None:
            return self.create_deployment(name, model_uri, flavor, {"replace": True} | (config or {}))
        given = _texts(config, UPDATE_KEYS)
        promote = given.get("promote", "false").lower() == "true"
        if promote == ("weight" in given):
            raise invalid("an update without a model takes either weight=PERCENT or promote=true")
        body: dict[str, Any] = {"reason": given.get("reason", "")}
        if "version" in given:
            body["candidate"] = _number(given, "version")
        if not promote:
            body |= {"route": given.get("route", EVERYONE), "percent": _number(given, "weight")}
        action = "promote" if promote else "weight"
        edited = self._planes.command("POST", f"/api/releases/{_checked(name)}/{action}", body)
        _refuse_incomplete(spread_text(edited["fleet"]) if edited.get("fleet") else ("", True))
        return _named(name, {"action": action, "difference": edited["difference"], "notes": edited.get("notes", [])})

    def delete_deployment(self, name: str, config: dict[str, Any] | None = None, endpoint: str | None = None) -> None:
        """Stop the candidate: once this has returned, no answer comes from it. It is no error if there is none; it is
        one if the gateway has no such model, so that a stop which goes astray is noticed.
        """
        _refuse_endpoint(endpoint)
        body = _texts(config, DELETE_KEYS)
        try:
            decision = self._planes.command("POST", f"/api/releases/{_checked(name)}/stop", body)
        except Refused as error:
            if error.status == CONFLICT and self.get_deployment(name)["candidate"] is None:
                return
            raise
        _refuse_incomplete(stopped_text(decision))

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """The gateway's models, each with its stable version and its candidate."""
        _refuse_endpoint(endpoint)
        keys = ("stable", "candidate", "stopped")
        releases = self._planes.command("GET", "/api/releases")
        return [_named(release["model"], {key: release[key] for key in keys}) for release in releases]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """All that the gateway says of the release."""
        _refuse_endpoint(endpoint)
        return _named(name, self._planes.command("GET", f"/api/releases/{_checked(name)}"))

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """Predict by the routing rules, with the version that they choose.

        `inputs`: see `request_body`. The response also has `model_version` and `prediction_id`, for feedback.
        """
        _refuse_endpoint(endpoint)
        path = f"/v2/models/{_checked(deployment_name)}"
        answer = self._planes.ask(
            "POST", f"{path}/infer", request_body(inputs, self._planes.ask("GET", path)["inputs"])
        )
        return PredictionsResponse(
            predictions=predictions_of(answer),
            model_version=answer["model_version"],
            prediction_id=answer["parameters"]["prediction_id"],
        )

    def explain(
        self, deployment_name: str | None = None, df: Any = None, endpoint: str | None = None
    ) -> list[dict[str, Any]]:
        """Say for each row of `df`, a request, which version answers it and why; not how the model comes to outputs."""
        _refuse_endpoint(endpoint)
        name = _checked(deployment_name)
        rows = [{}] if df is None or not len(df.columns) else df.to_dict(orient="records")
        if len(rows) > MOST_EXPLAINED:
            raise invalid(f"{len(rows)} rows are given; {MOST_EXPLAINED} are explained at once at most")
        return [self._planes.command("POST", "/api/explain", _question(name, row)) for row in rows]


def _question(name: str, row: dict[str, Any]) -> dict[str, Any]:
    question: dict[str, Any] = {"model": name, "headers": {}, "parameters": {}}
    for column, value in row.items():
        kind, colon, key = str(column).partition(":")
        if value is None or value != value:  # an empty cell is NaN
            continue
        if not colon and kind in ("customer", "modality", "key"):
            question[kind] = str(value)
        elif colon and kind == "header":
            question["headers"][key.lower()] = str(value)
        elif colon and kind == "parameter":
            question["parameters"][key] = value
        else:
            raise invalid(
                f"the column {column!r} does not decide which version answers; columns may be customer, modality, key,"
                " header:NAME and parameter:NAME"
            )
    return question


def _named(name: str, known: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "flavor": FLAVOR} | known


def _texts(config: dict[str, Any] | None, keys: Collection[str]) -> dict[str, str]:
    """The settings as text, as `-C` gives them. Raises MlflowException if one is none of `keys`."""
    given = config or {}
    if unknown := sorted(given.keys() - set(keys)):
        raise invalid(f"there is no setting {unknown[0]!r} here; there are {', '.join(keys)}")
    texts = {key: str(value) for key, value in given.items() if value is not None}
    return {key: text.lower() if text in ("True", "False") and key != "reason" else text for key, text in texts.items()}


def _number(given: dict[str, str], key: str) -> float:
    try:
        return int(given[key]) if key == "version" else float(given[key])
    except ValueError:
        raise invalid(f"{key}={given[key]} is no number") from None


def _checked(name: str | None) -> str:
    """The model's name, which is part of a path. Raises MlflowException."""
    try:
        return parse_name(name)
    except ValueError as error:
        raise invalid(f"the deployment's name is the model's: {error}") from None


def _refuse_endpoint(endpoint: str | None) -> None:
    if endpoint is not None:
        raise invalid(f"the gateway has no endpoints; name the model as the deployment's name, not {endpoint!r}")


def _refuse_incomplete(told: tuple[str, bool]) -> None:
    """Raise MlflowException if a command is not in force on all hosts of a fleet."""
    text, complete = told
    if not complete:
        raise Refused(503, text)
