"""What every settings class has in common."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable; unknown keys are errors. Fields are the YAML's keys, and the text below one is what it means."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)
