"""Predictions as a table, CSV, JSON or Parquet; columns are named as by timm's inference.py."""

import csv
import io
import json
from collections.abc import Sequence

from tabulate import tabulate

from prompting.prediction import Prediction

FORMATS = ("table", "csv", "json", "parquet")
PARQUET_NEEDS = "Parquet takes a package that is not installed: pip install pyarrow."


def check_format(style: str) -> None:
    """Raise ValueError for a format whose package is not installed."""
    if style == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401  # an extra, asked for before any work
        except ImportError as error:
            raise ValueError(PARQUET_NEEDS) from error


def rows(predictions: Sequence[Prediction]) -> list[dict[str, str | float]]:
    """Return a row per image that was read.

    Its columns are filename, label and prob, and with several classes per image label_0, prob_0,
    label_1, prob_1, ...
    """
    found = []
    for prediction in predictions:
        if prediction.error:
            continue
        several = len(prediction.labels) > 1
        row: dict[str, str | float] = {"filename": prediction.filename}
        pairs = zip(prediction.labels, prediction.probs, strict=True)
        for rank, (label, prob) in enumerate(pairs):
            end = f"_{rank}" if several else ""
            row |= {f"label{end}": label, f"prob{end}": prob}
        found.append(row)
    return found


def write(predictions: Sequence[Prediction], style: str) -> bytes:
    """Return the predictions in one of FORMATS; probabilities in full, but for the table."""
    table = rows(predictions)
    if style == "parquet":
        return _parquet(table)
    writers = {"csv": _csv, "json": lambda r: json.dumps(r, indent=2, ensure_ascii=False)}
    writers["table"] = _table
    return f"{writers[style](table).rstrip()}\n".encode()


def _table(table: Sequence[dict]) -> str:
    shown = [{k: f"{v:.4f}" if isinstance(v, float) else v for k, v in r.items()} for r in table]
    return tabulate(shown, headers="keys", disable_numparse=True)  # a class may be called 1e5


def _csv(table: Sequence[dict]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table[0]) if table else ["filename"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def _parquet(table: Sequence[dict]) -> bytes:
    import pyarrow  # an extra
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(table)), out)
    return out.getvalue()
