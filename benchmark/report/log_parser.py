"""Read log files of the original code bases (CoOp, MaPLe, PromptSRC, ...), their log.txt.

What a run was is read from the arguments and the configuration that it prints first, not from its
folder. Accuracy is computed from the counts of its final result, since it prints one decimal only.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmark.protocol import dataset_stems
from experiment.run_state import has_results

# Arguments and configuration are lines "key: value"; sections of the configuration are indented.
ARGUMENT = re.compile(r"^(\w+): *(.*)$", re.MULTILINE)
CONFIG = re.compile(r"^\*\* Config \*\*\n(?:\*+\n)?((?: *\w+:.*\n)+)", re.MULTILINE)
# A whole result, of the final evaluation of a run: no evaluation begins behind it.
EVALUATION = re.compile(r"^(?:Evaluate on the \*|Do evaluation on )(\w+)", re.MULTILINE)
RESULT = re.compile(
    r"^\* total: ([\d,]+)\n\* correct: ([\d,]+)\n\* accuracy: ([\d.]+)%\n", re.MULTILINE
)
TRAINED = "Finish training"
SHOTS_IN_PATH = re.compile(r"shots_(\d+)|_(\d+)shots")


@dataclass(frozen=True)
class Log:
    """Hold one evaluation that a log reports; data sets are stems of configs/datasets."""

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
        found = None if has_results(path.parent) else read_log(path)
        if found:
            newest[path.parent] = found
    return list(newest.values())


def read_log(path: Path) -> Log | None:
    """Return a log's run; None for another program, an unknown data set, or an unfinished run."""
    text = path.read_text(encoding="utf-8", errors="replace")
    printed = CONFIG.search(text)
    if not printed:
        return None
    arguments = dict(ARGUMENT.findall(text[: printed.start()]))
    accuracy = _final(text[printed.end() :], arguments.get("eval_only") == "True")
    if accuracy is None:
        return None
    try:
        config = yaml.safe_load(printed[1])
        data = {"SUBSAMPLE_CLASSES": "all", **config["DATASET"]}
        trainer, backbone = config["TRAINER"]["NAME"], config["MODEL"]["BACKBONE"]["NAME"]
        dataset, seed = dataset_stems().get(data["NAME"]), int(arguments.get("seed", -1))
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return None
    if dataset is None:
        return None
    # What was tested has only the folder of its training to say on what that was.
    folder = Path(arguments.get("model_dir", ""))
    known = [part for part in folder.parts if part in dataset_stems().values()]
    shots = SHOTS_IN_PATH.search(str(folder))
    return Log(
        path=path,
        trainer=trainer,
        backbone=backbone or "",
        trained_on=known[0] if known else dataset,
        dataset=dataset,
        classes=data["SUBSAMPLE_CLASSES"],
        shots=int(shots[1] or shots[2]) if shots else data["NUM_SHOTS"],
        seed=seed,
        accuracy=accuracy,
    )


def _final(text: str, evaluates: bool) -> float | None:
    """Return the accuracy of a run's final evaluation, None where the log ends before it.

    A training validates on the way, and where it has no validation images upstream's engine tests:
    what counts is the test that is begun last, in a training behind its end.

    Args:
        text: the log behind the configuration.
        evaluates: the run trained nothing (--eval-only).
    """
    evaluations = list(EVALUATION.finditer(text))
    if not evaluations or evaluations[-1][1] != "test":
        return None
    last = evaluations[-1]
    if not evaluates and TRAINED not in text[: last.start()]:
        return None
    found = RESULT.search(text, last.end())
    if not found:
        return None
    total, correct = (int(found[part].replace(",", "")) for part in (1, 2))
    return 100.0 * correct / total if total else None
