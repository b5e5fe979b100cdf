"""Check data on disk and report what is there, what is missing and what to do."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from dassl.config import get_cfg_default
from dassl.data.datasets import Datum
from tabulate import tabulate
from tqdm import tqdm

from datasets import ON_DISK, add_config
from datasets.base import FewShotDataset
from datasets.folders import images_below

SHOWN = 20  # bad images listed below the table; --json has them all
TILE = 1024  # images decoded before their results are collected


@dataclass
class Report:
    """Hold one row of the table.

    `verdict` is ready, absent, incomplete (files are missing) or broken; `action` is what to do in
    two words, `todo` in a sentence.
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
    bad: list[str] = field(default_factory=list)  # missing images or, with `deep`, unreadable ones


def check(name: str, root: Path, deep: bool = False) -> Report:
    """Check one data set in `root`; `deep` decodes every image."""
    loader = ON_DISK[name]
    folder = root / loader.dataset_dir
    report = Report(name, str(folder), folder.is_dir(), expected=loader.images)
    if loader.split_file:
        there = (folder / loader.split_file).is_file()
        report.split = "there" if there else "missing"
    if not report.found:
        report.action, report.todo = how_to_get(loader, root)
        return report
    try:
        splits = loader.read(_config(root))
    except FileNotFoundError as error:
        report.verdict, report.images = "incomplete", _count(folder / loader.image_dir)
        report.action, steps = how_to_get(loader, root)
        report.todo = f"{error}. {steps}"
    except ValueError as error:
        report.verdict, report.action, report.todo = "broken", "correct", str(error)
        if loader.split_file and loader.split_file in report.todo:
            report.split = "broken"
    else:
        _compare(report, loader, root, splits, deep)
    return report


def how_to_get(loader: type[FewShotDataset], root: Path) -> tuple[str, str]:
    """Return how to obtain the files of a data set, in two words and in full."""
    steps = {}
    if loader.sources:
        steps["prepare"] = f"run: python -m datasets prepare --root {root} {loader.__name__}"
    if loader.by_hand:
        steps["by hand"] = f"by hand: {loader.by_hand.format(folder=root / loader.dataset_dir)}"
    return ", ".join(steps), "; ".join(steps.values())


def _config(root: Path):
    cfg = get_cfg_default()
    add_config(cfg)
    cfg.DATASET.ROOT = str(root)
    return cfg


def _count(folder: Path) -> int:
    return len(images_below(folder)) if folder.is_dir() else 0


def _compare(report: Report, loader: type[FewShotDataset], root: Path, splits, deep: bool) -> None:
    """Fill in the report of a data set whose lists can be read."""
    items = {item.impath: item for split in splits if split is not None for item in split}
    report.classes = len({item.label for item in items.values()})
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
        report.todo = (
            f"expected {report.expected} images of {wanted} classes, found {report.images} of "
            f"{report.classes}{_first_of(report.bad)}: delete {loader.image_dir or 'the images'} "
            f"and unpack again. {how_to_get(loader, root)[1]}"
        )
    if deep:
        unreadable = _unreadable(there)
        report.bad += unreadable
        if unreadable:
            report.verdict, report.action = "broken", "unpack again"
            report.todo = f"{len(unreadable)} images cannot be read: unpack or download them again"


def _first_of(paths: list[str]) -> str:
    return f", the first missing is {paths[0]}" if paths else ""


def _unreadable(items: list[Datum]) -> list[str]:
    """Return the paths of the images that cannot be decoded; show a progress bar."""
    with ThreadPoolExecutor() as pool, tqdm(total=len(items), unit="image") as bar:
        bad = []
        for tile in _tiles(items):
            results = pool.map(_decodes, tile)
            bad += [item.impath for item, good in zip(tile, results, strict=True) if not good]
            bar.update(len(tile))
    return bad


def _tiles(items: list[Datum]) -> Iterator[list[Datum]]:
    rest = iter(items)
    while tile := list(islice(rest, TILE)):
        yield tile


def _decodes(item: Datum) -> bool:
    try:
        item.open()
    except Exception:  # Pillow's decoders raise far more than OSError on broken bytes
        return False
    return True


def as_table(reports: list[Report]) -> str:
    """Return a table with one row per data set, and below it what to do and the bad images."""
    head = ["data set", "found", "images", "split file", "classes", "verdict", "what to do"]
    rows = []
    for r in reports:
        images = f"{r.images}/{r.expected or '?'}"
        found = "yes" if r.found else "no"
        rows.append([r.name, found, images, r.split, r.classes, r.verdict, r.action])
    lines = [tabulate(rows, head, disable_numparse=True)]
    for report in reports:
        if report.todo:
            lines += ["", f"{report.name}: {report.todo}"]
        lines += report.bad[:SHOWN]
        if len(report.bad) > SHOWN:
            lines.append(f"... and {len(report.bad) - SHOWN} more, see --json")
    return "\n".join(lines)


def as_dicts(reports: list[Report]) -> list[dict]:
    return [asdict(report) for report in reports]
