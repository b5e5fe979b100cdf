"""Read published figures with their sources from `published.json`; nothing else reads it."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PATH = Path(__file__).with_name("published.json")
METRICS = ("base", "new", "HM")  # columns of a base-to-new entry
ACCURACY = "accuracy"  # the one column of a transfer entry
AVERAGE = "average"  # stands where else a data set does
UNITS = {"K": 1_000, "M": 1_000_000}

Key = tuple[str, str]  # data set or AVERAGE, column


@cache
def _content() -> dict:
    return json.loads(PATH.read_text(encoding="utf-8"))


@cache
def entries(table: str) -> list[dict]:
    """Return the rows of a published table by its protocol's name; none for an unknown one.

    Each has its `method`, `trainer` (our registry name), `source`, perhaps a `note`, and under
    `figures` every figure by its Key; `average` and `datasets` are as the file has them.
    """
    rows = _content().get(table, [])
    return [{"trainer": row["method"], **row, "figures": dict(_figures(row))} for row in rows]


def _figures(row: dict) -> Iterator[tuple[Key, float]]:
    for name, value in {**row.get("datasets", {}), AVERAGE: row[AVERAGE]}.items():
        if isinstance(value, list):
            value = dict(zip(METRICS, value, strict=True))
        for column, figure in (value if isinstance(value, dict) else {ACCURACY: value}).items():
            yield (name, column), figure


def mismatches(table: str) -> list[tuple[str, str, str, float, float]]:
    """Return what does not add up: method, data set, metric, as printed, as it follows."""
    return [tuple(rest) for name, *rest in _content()["mismatches"] if name == table]


@cache
def parameters() -> dict[str, tuple[int, str]]:
    """Return trainable parameters at ViT-B/16 by method, as a number and as printed.

    Counts of our own stand where none is printed; the file says how each was counted.
    """
    found = {}
    for method, entry in _content()["parameters"].items():
        printed = entry.get("printed") or f"{entry['count']:,}"
        unit = UNITS.get(printed[-1])
        found[method] = (round(float(printed[:-1]) * unit) if unit else entry["count"], printed)
    return found
