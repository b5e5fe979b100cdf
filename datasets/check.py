"""Check data on disk and report what is there, what is missing and what to do."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dassl.data.datasets import Datum
from tabulate import tabulate
from tqdm import tqdm
from yacs.config import CfgNode

from datasets import ON_DISK
from datasets.base import FewShotDataset
from datasets.folders import images_below
from datasets.text import shorten
from prompting.errors import counted

SHOWN = 20  # bad images listed below the table; --json has them all
TILE = 1024  # images decoded before their results are collected


@dataclass
class Report:
    """Hold one row of the table.

    `verdict` is ready, absent, incomplete (files are missing) or broken; `action` is what to do in
    two words, empty where only `todo`, a sentence, says it. `bad` are images that are missing or
    that cannot be read, and `why`; `notes` are what a run would log.
    """

    name: str
    folder: str
    found: bool = False
    images: int = 0
    expected: int = 0
    split: str = "none needed"
    classes: int = 0
    verdict: str = "absent"
    action: str = ""
    todo: str = ""
    bad: list[str] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check(name: str, cfg: CfgNode, deep: bool = False) -> Report:
    """Check one data set as a run with this configuration would read it.

    Of own images the first bytes are read, as before a run; `deep` decodes every image.
    """
    loader, root = ON_DISK[name], Path(cfg.DATASET.ROOT)
    folder = root / loader.dataset_dir
    report = Report(name, str(folder), os.path.isdir(folder), expected=loader.images)
    if loader.split_file:
        there = os.path.isfile(folder / loader.split_file)
        report.split = "there" if there else "missing"
    if not report.found:
        report.action, report.todo = how_to_get(loader, root)
        return report
    try:
        splits, report.notes = loader.read(cfg)
        _compare(report, loader, root, splits, deep)
    except FileNotFoundError as error:
        report.verdict, report.images = "incomplete", _count(folder / loader.image_dir)
        report.action, steps = how_to_get(loader, root)
        report.todo = f"{error}. {steps}".removesuffix(". ")
    except (ValueError, OSError) as error:  # OSError: a folder that cannot be opened
        report.verdict, report.todo = "broken", str(error)
        report.images = _count(folder / loader.image_dir)
        if loader.split_file and loader.split_file in report.todo:
            report.split = "broken"
    return report


def how_to_get(loader: type[FewShotDataset], root: Path) -> tuple[str, str]:
    """Return how to obtain the files of a data set, in two words and in full."""
    steps = {}
    if loader.sources:
        steps["prepare"] = f"run: python -m datasets prepare --root {root} {loader.__name__}"
    if loader.by_hand:
        steps["by hand"] = f"by hand: {loader.by_hand.format(folder=root / loader.dataset_dir)}"
    return ", ".join(steps), "; ".join(steps.values())


def _count(folder: Path) -> int:
    try:
        return len(images_below(folder))
    except (OSError, ValueError):
        return 0


def _compare(report: Report, loader: type[FewShotDataset], root: Path, splits, deep: bool) -> None:
    """Fill in the report of a data set whose lists can be read."""
    items = {item.impath: item for split in splits if split is not None for item in split}
    names = {item.label: item.classname for item in items.values()}
    report.classes = len(names)
    there = [item for path, item in items.items() if os.path.isfile(path)]
    report.images = len(there)
    if len(there) < len(items):
        report.bad = sorted(items.keys() - {item.impath for item in there})
    report.expected = report.expected or len(items)
    wanted = loader.classes or report.classes
    if (report.images, report.classes) == (report.expected, wanted):
        report.verdict = "ready"
    else:
        report.verdict, report.action = "incomplete", "unpack again"
        what = f"delete {loader.image_dir or 'the images'} and unpack again"
        if not loader.published:
            report.action, what = "", "add these images, or take them out of the split"
        first = f", the first missing is {report.bad[0]}" if report.bad else ""
        report.todo = (
            f"expected {report.expected} images of {wanted} classes, found {report.images} of "
            f"{report.classes}{first}: {what}. {how_to_get(loader, root)[1]}"
        ).rstrip()
    if not loader.published:
        report.notes.append(f"the classes are {shorten([names[y] for y in sorted(names)])}")
    if deep or not loader.published:
        report.why = _unreadable(there, deep)
        report.bad += report.why
        if report.why:
            report.verdict = "broken"
            report.action = "unpack again" if loader.published else ""
            report.todo = f"{counted(len(report.why), 'image')} cannot be read"


def _unreadable(items: list[Datum], deep: bool) -> dict[str, str]:
    """Return the images that a run could not read, and why; show a progress bar."""
    reasons = {}
    with ThreadPoolExecutor() as pool, tqdm(total=len(items), unit="image") as bar:
        for start in range(0, len(items), TILE):
            tile = items[start : start + TILE]
            found = pool.map(partial(_reason, deep=deep), tile)
            reasons |= {item.impath: why for item, why in zip(tile, found, strict=True) if why}
            bar.update(len(tile))
    return reasons


def _reason(item: Datum, deep: bool) -> str:
    """Return why an image cannot be read, or ""."""
    try:
        item.open() if deep else item.check()
    except (OSError, MemoryError) as error:
        return str(error).removesuffix(f" {item.advice}")
    return ""


def as_table(reports: list[Report]) -> str:
    """Return a table with one row per data set, below it what to do, the bad images, and notes."""
    head = ["data set", "found", "images", "split file", "classes", "verdict", "what to do"]
    rows = []
    for r in reports:
        images = f"{r.images}/{r.expected or '?'}"
        found = "yes" if r.found else "no"
        action = r.action or ("see below" if r.todo else "")
        rows.append([r.name, found, images, r.split, r.classes, r.verdict, action])
    lines = [tabulate(rows, head, disable_numparse=True)]
    for report in reports:
        if report.todo:
            named = report.todo.startswith(f"{report.name} ")
            lines += ["", report.todo if named else f"{report.name}: {report.todo}"]
        lines += [report.why.get(path, path) for path in report.bad[:SHOWN]]
        if len(report.bad) > SHOWN:
            lines.append(f"... and {len(report.bad) - SHOWN} more, see --json")
        lines += [f"\n{report.name}: {note}" for note in report.notes]
    return "\n".join(lines)
