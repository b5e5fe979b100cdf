"""Write the report as one HTML file that needs no network: tables, figures, every run's origin."""

import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml
from dassl.utils import atomic_write
from jinja2 import Environment, FileSystemLoader

from benchmark.plan import Run
from benchmark.report.canvas import INK, Figure
from benchmark.report.cells import Table
from benchmark.report.collect import Collected
from benchmark.report.figures import draw_all
from benchmark.report.results import Results
from benchmark.report.tables import GAP
from experiment.config import CONFIGS

LISTED = 10  # classes named for each run


def write_page(
    folder: Path,
    results: Results,
    found: Sequence[Collected],
    named: Sequence[tuple[str, Sequence[Table]]],
) -> Path:
    """Write FOLDER/index.html and FOLDER/figures.

    Args:
        results: all results, of protocols and others.
        found: protocols with what was found of them.
        named: their tables, and those of runs of no protocol.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"inline": inline, "command": command, "commit": _short_commit}
    environment.filters |= {"short": short, "lowest": lowest}
    environment.filters["yaml"] = partial(yaml.safe_dump, width=1000)
    page = environment.get_template("page.html.j2").render(
        sections=[(each, tables) for each, (_, tables) in zip(found, named, strict=False)],
        other=[table for _, tables in named[len(found) :] for table in tables],
        results=results,
        figures=draw_all(found, folder / "figures", others=results.others),
        worlds={collected.protocol.demo for collected in found},
        missing=sum(result is None for each in found for _, result in each.runs),
        date=time.strftime("%Y-%m-%d"),
        gap=GAP,
    )
    path = folder / "index.html"
    with atomic_write(path) as file:
        file.write(page.encode("utf-8"))
    return path


def _short_commit(name: str | None) -> str:
    """Return ten digits of a commit, and whether files differed from it."""
    return f"{name[:10]}{name[40:]}" if name else "unknown"


def inline(figure: Figure) -> str:
    """Return the SVG for a page: it takes the page's colour and font, and its ids are unique."""
    svg = figure.svg[figure.svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1system-ui, sans-serif", svg)
    svg = re.sub(r'(\bid="|"#|url\(#)', rf"\1{figure.name}-", svg)
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


def lowest(classes: Sequence[Mapping]) -> str:
    """Return the classes that are recognised worst, with their accuracies."""
    known = sorted((c for c in classes if c["images"]), key=lambda c: c["accuracy"])[:LISTED]
    return ", ".join(f"{c['class']} {c['accuracy']:.1f}" for c in known)


def command(run: Run) -> str:
    """Return the command of a run that is missing."""
    return shlex.join(["python", "train.py", *run.arguments("DATA", Path("OUT"))])


def short(text: str) -> str:
    """Return paths without the current folder, or this repository's, in front of them."""
    for above in (Path.cwd(), CONFIGS.parent):
        text = text.replace(f"{above}{os.sep}", "")
    return text
