"""Tables as text: for terminals, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict

from tabulate import tabulate

from benchmark.cells import Cell, Table

FORMATS = ("terminal", "markdown", "latex", "csv", "json", "html")


def write(named: Sequence[tuple[str, Sequence[Table]]], style: str) -> str:
    """Tables of protocols, (name, tables), in one of FORMATS but html."""
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
    return {"title": table.title, "rows": rows, "notes": table.notes, "sources": table.sources}


def _value(cell: Cell):
    """Full precision where there is a figure, the text where there is none."""
    if cell.kind == "own" or cell.kind == "missing":
        return {k: v for k, v in asdict(cell).items() if k in ("value", "std", "seeds", "planned")}
    return cell.text.strip() or None if cell.kind == "label" else cell.value


def _csv(named: Sequence[tuple[str, Sequence[Table]]]) -> str:
    """One line a cell, so that every table fits: protocol, table, row, column, figures."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["protocol", "table", "row", "column", "kind", "value", "std", "seeds", "planned"]
    )
    for name, tables in named:
        for table in tables:
            for row in table.rows:
                labels = " / ".join(c.text.strip() for c in row if c.kind == "label" and c.text)
                for head, cell in zip(table.header, row, strict=True):
                    if cell.kind == "label":
                        continue
                    figures = (cell.value, cell.std, cell.seeds, cell.planned)
                    writer.writerow([name, table.title, labels, head, cell.kind, *figures])
    return out.getvalue().rstrip("\n")


def _grid(table: Table, style: str, header: Sequence[str]) -> str:
    align = ["left" if _words(table, column) else "right" for column in range(len(header))]
    lines = [[cell.text for cell in row] for row in table.rows]
    return tabulate(
        lines,
        header,
        tablefmt=style,
        colalign=align,
        disable_numparse=True,
        preserve_whitespace=True,
    )


def _words(table: Table, column: int) -> bool:
    return all(row[column].kind == "label" and row[column].text for row in table.rows)


def _terminal(table: Table) -> str:
    wrap = textwrap.TextWrapper(100, initial_indent="  ", subsequent_indent="    ")
    notes = [wrap.fill(note) for note in table.notes]
    return "\n".join([table.title, "", _grid(table, "simple", table.header), *notes])


def _markdown(table: Table) -> str:
    notes = ["", *(f"- {note}" for note in (*table.notes, *table.sources))]
    return "\n".join(
        [f"### {table.title}", "", _grid(table, "github", table.header), *notes]
    ).rstrip()


def _latex(table: Table) -> str:
    """For the package booktabs."""
    align = "".join("l" if _words(table, i) else "r" for i in range(len(table.header)))
    lines = [" & ".join(map(_tex, (cell.text for cell in row))) + r" \\" for row in table.rows]
    return "\n".join(
        [
            rf"% {table.title}",
            *(f"% {note}" for note in table.notes),
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            " & ".join(map(_tex, table.header)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _tex(text: str) -> str:
    for plain, tex in (("%", r"\%"), ("&", r"\&"), ("_", r"\_"), ("#", r"\#"), ("±", r"$\pm$")):
        text = text.replace(plain, tex)
    return f"${text}$" if text[:1] in "+-" and text[1:2].isdigit() else text
