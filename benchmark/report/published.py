"""Published figures, with their sources: `published.json`, read only here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PATH = Path(__file__).with_name("published.json")
# [base, new, HM] of a base-to-new entry
METRICS = ("base", "new", "HM")


@dataclass(frozen=True)
class Entry:
    """One row of a published table.

    Attributes:
        method: the name in the literature.
        trainer: our registry name.
        average: [base, new, HM], an accuracy, or shots to accuracy; as printed, None: not found.
        datasets: the same for each data set (stems of configs/datasets), where found.
        source: where it was read.
        note: what does not add up in it.
    """

    method: str
    source: str
    average: list | float | Mapping
    trainer: str = ""
    datasets: Mapping = field(default_factory=dict)
    note: str = ""
    checked_with: str = ""


@cache
def _content() -> dict:
    return json.loads(PATH.read_text(encoding="utf-8"))


def entries(table: str) -> list[Entry]:
    """The rows of a published table, by the name of its protocol; none for an unknown one."""
    rows = _content().get(table, [])
    return [Entry(**row) for row in rows] if isinstance(rows, list) else []


def parameters() -> dict[str, int]:
    """Trainable parameters at ViT-B/16 by method; its file says how each was counted."""
    return {method: entry["count"] for method, entry in _content()["parameters"].items()}
