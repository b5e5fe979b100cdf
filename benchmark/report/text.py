"""Write tables as text: for terminals, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict

from tabulate import tabulate

from benchmark.report.cells import Cell, Table

FORMATS = ("terminal", "markdown", "latex", "csv", "json", "html")
WIDTH = 120  # of a terminal; in a wider table deviations go below the figures
FIELDS = ["protocol", "table", "row", "column", "kind", "value", "std", "seeds", "planned"]
SIGNED = re.compile(r"(?<=& )( *)([-+]\d+\.\d+)")


def write(named: Sequence[tuple[str, Sequence[Table]]], style: str) -> str:
    """Write tables of protocols, (name, tables), in one of FORMATS but html."""
    if style == "json":
        content = {name: [_plain(table) for table in tables] for name, tables in named}
        return json.dumps(content, indent=2, ensure_ascii=False)
    if style == "csv":
        return _csv(named)
    writers = {"terminal": _terminal, "markdown": _markdown, "latex": _latex}
    return "\n\n".join(writers[style](table) for _, tables in named for table in tables)


def _plain(table: Table) -> dict:
    rows = [
        {head: _value(cell) for head, cell in zip(table.header, row, strict=True)}
        for row in table.rows
    ]
    plain = {"title": table.title, "rows": rows, "notes": table.notes, "sources": table.sources}
    return plain | ({"verdict": asdict(table.verdict)} if table.verdict else {})


def _value(cell: Cell):
    """Return full precision where there is a figure, the text where there is none."""
    if cell.kind in ("own", "missing"):
        return {k: v for k, v in asdict(cell).items() if k in ("value", "std", "seeds", "planned")}
    return cell.text.strip() or None if cell.kind == "label" else cell.value


def _csv(named: Sequence[tuple[str, Sequence[Table]]]) -> str:
    """Write one line per cell, so that every table fits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    for name, table in ((name, table) for name, tables in named for table in tables):
        for row in table.rows:
            labels = " / ".join(c.text.strip() for c in row if c.kind == "label" and c.text)
            for head, cell in zip(table.header, row, strict=True):
                figures = (cell.value, cell.std, cell.seeds, cell.planned)
                if cell.kind != "label":
                    writer.writerow([name, table.title, labels, head, cell.kind, *figures])
    return out.getvalue().rstrip("\n")


def _grid(table: Table, style: str, narrow: bool = False) -> str:
    return tabulate(
        [[_narrow(cell) if narrow else cell.text for cell in row] for row in table.rows],
        [re.sub("[ _]", "\n", head) for head in table.header] if narrow else table.header,
        tablefmt=style,
        colalign=["left" if word else "right" for word in table.words],
        disable_numparse=True,
        preserve_whitespace=True,
    )


def _narrow(cell: Cell) -> str:
    """Return a figure with its deviation below it, and its seeds only where some are missing."""
    if cell.kind != "own":
        return cell.text
    lines = [f"{cell.value:.2f}"] + ([] if cell.std is None else [f"±{cell.std:.2f}"])
    lines += [f"{cell.seeds} of {cell.planned}"] if cell.seeds != cell.planned else []
    return "\n".join(lines)


def _notes(table: Table, mark: str = "") -> list[str]:
    verdict = [f"{mark}{table.verdict.text}{mark}"] if table.verdict else []
    return [*verdict, *table.notes, *table.sources]


def _terminal(table: Table) -> str:
    wrap = textwrap.TextWrapper(100, initial_indent="  ", subsequent_indent="    ")
    grid = _grid(table, "simple")
    if len(grid.splitlines()[0]) > WIDTH:
        grid = _grid(table, "simple", narrow=True)
    notes = [wrap.fill(note) for note in _notes(table)]
    return "\n".join([table.title, "", grid, *notes])


def _markdown(table: Table) -> str:
    notes = ["", *(f"- {note}" for note in _notes(table, mark="**"))]
    return "\n".join([f"### {table.title}", "", _grid(table, "github"), *notes]).rstrip()


def _latex(table: Table) -> str:
    """Write a tabular for the package booktabs, with notes as comments."""
    notes = [f"% {note}" for note in (table.title, *_notes(table))]
    grid = SIGNED.sub(r"\1$\2$", _grid(table, "latex_booktabs").replace("±", r"$\pm$"))
    return "\n".join([*notes, grid])
