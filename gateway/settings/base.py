"""The base class of all settings."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A mapping of a YAML file: immutable, unknown keys are errors. Fields are its keys; the docstring below a field is
    its description in config/REFERENCE.md and in the JSON Schema (`descriptions`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
