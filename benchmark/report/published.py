"""Published figures with their sources, from `published.json`, which is read only here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

PATH = Path(__file__).with_name("published.json")
METRICS = ("base", "new", "HM")  # columns of a base-to-new entry
ACCURACY = "accuracy"  # the one column of a transfer entry
AVERAGE = "average"  # stands where else a data set does
UNITS = {"K": 1_000, "M": 1_000_000}

Key = tuple[str, str]  # data set or AVERAGE, column


@dataclass(frozen=True)
class Entry:
    """One row of a published table.

    Attributes:
        method: the name in the literature.
        source: where it was read.
        average: [base, new, HM], an accuracy, or shots to accuracy; as printed.
        trainer: our registry name, where it is not `method`.
        datasets: the same per data set (stems of configs/datasets), where known.
        note: what to know about it.
        checked_with: a second source that agrees.
    """

    method: str
    source: str
    average: list | float | Mapping
    trainer: str = ""
    datasets: Mapping = field(default_factory=dict)
    note: str = ""
    checked_with: str = ""

    @cached_property
    def figures(self) -> dict[Key, float]:
        """Every figure of the row, by data set (or AVERAGE) and column."""
        parts = {**self.datasets, AVERAGE: self.average}
        return {(name, column): v for name in parts for column, v in _columns(parts[name])}


def _columns(value: list | float | Mapping) -> list[tuple[str, float]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list):
        return list(zip(METRICS, value, strict=True))
    return [(ACCURACY, value)]


@cache
def _content() -> dict:
    return json.loads(PATH.read_text(encoding="utf-8"))


def entries(table: str) -> list[Entry]:
    """Return the rows of a published table by its protocol's name; none for an unknown one."""
    reserved = ("about", "mismatches", "parameters")
    rows = [] if table in reserved else _content().get(table, [])
    return [Entry(**row) for row in rows]


def mismatches(table: str) -> list[tuple[str, str, str, float, float]]:
    """Return what does not add up: method, data set, metric, as printed, as it follows."""
    return [tuple(rest) for name, *rest in _content()["mismatches"] if name == table]


def parameters() -> dict[str, tuple[int, str]]:
    """Return trainable parameters at ViT-B/16 by method, as a number and as printed.

    Counts of our own stand where none is printed; the file says how each was counted.
    """
    found = {}
    for method, entry in _content()["parameters"].items():
        printed = entry.get("printed")
        if printed:
            found[method] = (round(float(printed[:-1]) * UNITS[printed[-1]]), printed)
        else:
            found[method] = (entry["count"], f"{entry['count']:,}")
    return found
