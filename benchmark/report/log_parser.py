"""Read log files of the original code bases (CoOp, MaPLe, PromptSRC, ...), their log.txt.

What a run was is read from the arguments and the configuration that it prints first, not from its
folder. Accuracy is computed from the counts of its last result, since it prints one decimal only.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from benchmark.protocol import dataset_stems

ARGUMENTS, CONFIG = "** Arguments **", "** Config **"
COUNTS = re.compile(r"^\* total: ([\d,]+)\n\* correct: ([\d,]+)$", re.MULTILINE)
BACKBONE = re.compile(r"^  BACKBONE:\n(?:    .*\n)*?    NAME: *(.*)$", re.MULTILINE)
SHOTS_IN_PATH = re.compile(r"shots_(\d+)|_(\d+)shots")


@dataclass(frozen=True)
class Log:
    """One evaluation that a log reports; data sets are stems of configs/datasets."""

    path: Path
    trainer: str
    backbone: str
    trained_on: str
    dataset: str
    classes: str
    shots: int
    seed: int
    accuracy: float


def read_logs(output: Path) -> list[Log]:
    """Return all finished runs of original code bases below a folder; per run its newest log."""
    newest: dict[Path, Log] = {}
    paths = sorted(output.rglob("log.txt*"), key=lambda path: path.stat().st_mtime)
    for path in paths:
        found = None if (path.parent / "results.json").exists() else read_log(path)
        if found:
            newest[path.parent] = found
    return list(newest.values())


def read_log(path: Path) -> Log | None:
    """Return a log's run; None for another program, an unknown data set, or an unfinished run."""
    text = path.read_text(encoding="utf-8", errors="replace")
    counts = list(COUNTS.finditer(text))
    if ARGUMENTS not in text or CONFIG not in text or not counts:
        return None
    arguments, config = text.split(CONFIG, 1)
    name = _key(config, "NAME", "DATASET")
    dataset = dataset_stems().get(name)
    if dataset is None:
        return None
    model = _key(arguments, "model_dir")
    total, correct = (int(number.replace(",", "")) for number in counts[-1].groups())
    return Log(
        path=path,
        trainer=_key(config, "NAME", "TRAINER"),
        backbone=_backbone(config),
        trained_on=_first_dataset(model) or dataset,
        dataset=dataset,
        classes=_key(config, "SUBSAMPLE_CLASSES", "DATASET") or "all",
        shots=_shots(model) or int(_key(config, "NUM_SHOTS", "DATASET") or -1),
        seed=int(_key(arguments, "seed") or -1),
        accuracy=100.0 * correct / total,
    )


def _key(text: str, key: str, section: str = "") -> str:
    """Return the value of the first line `key: value`, in a section if one is named; or ""."""
    if section:
        start = re.search(rf"^{section}:\n((?: +.*\n)+)", text, re.MULTILINE)
        text = start.group(1) if start else ""
    found = re.search(rf"^ {{0,2}}{key}: *(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _backbone(config: str) -> str:
    found = BACKBONE.search(config)
    return found.group(1).strip() if found else ""


def _first_dataset(folder: str) -> str:
    known = set(dataset_stems().values())
    return next((part for part in Path(folder).parts if part in known), "")


def _shots(folder: str) -> int:
    found = SHOTS_IN_PATH.search(folder)
    return int(found.group(1) or found.group(2)) if found else 0
