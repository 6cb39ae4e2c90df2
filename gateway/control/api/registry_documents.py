"""What the model registry says, as the API shows it."""

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from gateway.control.metrics.registry_metrics import RegistryModel, RegistryStatus


class RegistryModelDocument(TypedDict):
    """The model in the registry. `registered`: its name there. `champion`, `challenger`: the versions of these aliases.

    `note`: what differs from the release here, and why; null if nothing does. `problem`: it will not go away by itself.
    `pending`: changes here that the registry does not have yet. `elsewhere`: see RegistryDocument.
    """

    registered: str
    champion: int | None
    challenger: int | None
    note: str | None
    problem: bool
    pending: int
    elsewhere: str | None


class RegistryDocument(TypedDict):
    """The registry. `error`: why it does not answer; null if it does. `answered_time_s`: when it last did, in seconds
    since 1970, or null. `elsewhere`: why this host of a fleet does not ask it itself, such as that another one does,
    whose answers these are then; null if it does.
    """

    url: str
    error: str | None
    answered_time_s: float | None
    elsewhere: str | None


def registry_model_document(model: RegistryModel) -> RegistryModelDocument:
    """The document of one model."""
    return {
        "registered": model.registered,
        "champion": model.champion,
        "challenger": model.challenger,
        "note": model.note or None,
        "problem": model.problem,
        "pending": model.pending,
        "elsewhere": model.elsewhere or None,
    }


def registry_document(registry: RegistryStatus | None) -> RegistryDocument | None:
    """The document of the registry; None without one."""
    if registry is None:
        return None
    return {
        "url": registry.url,
        "error": registry.error or None,
        "answered_time_s": registry.answered_s or None,
        "elsewhere": registry.elsewhere or None,
    }
