"""Write the report as one HTML file that needs no network: tables, figures, every run's origin."""

import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import atomic_write
from jinja2 import Environment, FileSystemLoader

from benchmark.plan import Run
from benchmark.report.canvas import INK, Figure
from benchmark.report.cells import Table
from benchmark.report.collect import Collected, Result, Results
from benchmark.report.figures import draw_all
from benchmark.report.tables import GAP
from experiment.config import CONFIGS

ABOUT = {
    "base2new": "Trained on the first half of the classes, tested on both halves.",
    "transfer": "Trained on one data set with all its classes, tested on others.",
    "few_shot": "Trained and tested on all classes.",
}


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
    figures = draw_all(found, folder / "figures")
    demo = [collected.protocol.demo for collected in found]
    mixed = len(set(demo)) > 1
    sections = [
        _section(collected, tables, figures, mixed)
        for collected, (_, tables) in zip(found, named, strict=False)
    ]
    for name, tables in named[len(found) :]:
        runs = [_other_run(result) for result in results.others]
        title = "Runs of no protocol"
        sections.append({"id": name, "title": title, "tables": _rows(tables, []), "runs": runs})
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    text = environment.get_template("page.html.j2").render(
        title="MMLoP: results" + " on the demo world" * (any(demo) and not mixed),
        lead=_lead(found),
        facts=_facts(results, found),
        sections=sections,
        foot=f"Made by python -m benchmark.report, {time.strftime('%Y-%m-%d')}. "
        "Figures are next to this page as PNG and SVG; every number is in the runs' results.json.",
    )
    path = folder / "index.html"
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))
    return path


def _lead(found: Sequence[Collected]) -> str:
    text = "Accuracy in percent. Click on a column to sort by it."
    if any(collected.protocol.demo for collected in found):
        text += (
            " These runs are on the demo world, rendered shapes and a small CLIP trained on them: "
            "they show that everything works, and say nothing about the paper's data sets."
        )
    return text


def _facts(results: Results, found: Sequence[Collected]) -> list[tuple[str, str]]:
    missing = sum(result is None for c in found for _, result in c.runs)
    seconds = sum(result.seconds for result in results.all)
    devices = sorted({result.data["device"] for result in results.all})
    hours = f"{seconds / 3600:.1f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"
    return [
        ("evaluations found", f"{len(results.all) + len(results.logs)}"),
        ("evaluations missing", f"{missing}"),
        ("methods", f"{len({result.data['trainer'] for result in results.all})}"),
        ("computed in all", hours),
        ("device", "; ".join(devices) or "unknown"),
        ("code", _code(results)),
    ]


def _code(results: Results) -> str:
    """Return the commit of all runs, or how many there are."""
    commits = sorted({_short_commit(result.data["commit"]) for result in results.all})
    return commits[0] if len(commits) == 1 else f"{len(commits)} commits"


def _short_commit(name: str | None) -> str:
    """Return ten digits of a commit, and whether files differed from it."""
    return f"{name[:10]}{name[40:]}" if name else "unknown"


def _section(
    found: Collected, tables: Sequence[Table], figures: Sequence[Figure], mixed: bool
) -> dict:
    protocol = found.protocol
    demo = "_demo" * protocol.demo
    own = [f for f in figures if f.protocol == protocol.name and f.demo == protocol.demo]
    about = ABOUT[protocol.table]
    if protocol.varies:
        about = f"Variants of one method. {about}"
    if protocol.paper:
        about += f" In the paper: {protocol.paper}."
    return {
        "id": f"{protocol.name}{demo}",
        "title": f"{protocol.title}{' (demo world)' * (mixed and protocol.demo)}",
        "about": about,
        "tables": _rows(tables, list(protocol.rows)),
        "figures": [{"svg": inline(figure), "caption": figure.caption} for figure in own],
        "runs": [_run(run, result) for run, result in found.runs],
    }


def _rows(tables: Sequence[Table], mine: Sequence[str]) -> list[dict]:
    """Return tables for the template; our rows are marked where published ones stand next to them.

    A line of differences belongs to the row above it: sorting keeps them together.
    """
    content = []
    for table in tables:
        mixed = any(cell.kind == "published" for row in table.rows for cell in row)
        columns = list(zip(*table.rows, strict=True))
        words = [all(cell.kind == "label" for cell in column) for column in columns]
        rows = [
            {
                "cells": row,
                "mine": mixed and row[0].text in mine,
                "below": row[0].text.startswith(GAP),
            }
            for row in table.rows
        ]
        content.append({**vars(table), "rows": rows, "words": words})
    return content


def inline(figure: Figure) -> str:
    """Return the SVG for a page: it takes the page's colour and font, and its ids are unique."""
    svg = figure.svg[figure.svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1system-ui, sans-serif", svg)
    ids = sorted(set(re.findall(r'id="([^"]+)"', svg)), key=len, reverse=True)
    for number, name in enumerate(ids):
        new = f"{figure.name}-{number}"
        svg = svg.replace(f'id="{name}"', f'id="{new}"')
        svg = svg.replace(f'"#{name}"', f'"#{new}"').replace(f"url(#{name})", f"url(#{new})")
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


def _run(run: Run, result: Result | None) -> dict:
    shots = f", {run.shots} shots" * bool(run.shots)
    name = f"{run.row}, {run.dataset}, {run.classes} classes{shots}, seed {run.seed}"
    if result is None:
        command = shlex.join(["python", "train.py", *run.arguments("DATA", Path("OUT"))])
        return {"name": name, "accuracy": None, "command": short(command)}
    return {**_of_result(result), "name": name}


def _other_run(result: Result) -> dict:
    return {**_of_result(result), "name": str(result.folder)}


def _of_result(result: Result) -> dict:
    data = result.data
    origin = (
        f"{data['correct']} of {data['total']} right; seconds: "
        f"{data['seconds']['training']:.0f} training, {data['seconds']['evaluation']:.0f} "
        f"evaluation; peak memory {data['peak_memory_mb']:.0f} MB; {data['device']}; "
        f"commit {_short_commit(data['commit'])}"
    )
    return {
        "accuracy": result.accuracy,
        "command": short(result.command),
        "config": yaml.safe_dump(_plain(_shown(data["config"]))),
        "origin": origin,
    }


def _shown(config: Mapping) -> dict:
    """Return a configuration without the nodes of other methods."""
    trainer = config["TRAINER"]
    known = trainer["NAME"] in TRAINER_REGISTRY.registered_names()
    node = getattr(TRAINER_REGISTRY.get(trainer["NAME"]), "node", None) if known else None
    kept = {k: v for k, v in trainer.items() if node in (None, k) or not isinstance(v, Mapping)}
    return {**config, "TRAINER": kept}


def _plain(value):
    """Return paths of this machine as they look from the current folder."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return short(value) if isinstance(value, str) else value


def short(text: str) -> str:
    """Return paths without the current folder, or this repository's, in front of them."""
    for above in (Path.cwd(), CONFIGS.parent):
        text = text.replace(f"{above}{os.sep}", "")
    return text
