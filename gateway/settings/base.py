"""What every settings class has in common."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable; unknown keys are errors; field names are the YAML's keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
