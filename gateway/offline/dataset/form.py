"""In which form an export is written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """What is written: parquet or jsonl; `flat`: a row for each row of a request, a column a feature, also as csv."""

    format: str = "parquet"
    flat: bool = False
