"""Find what runs left in their folders, and whether it is what a protocol asks for."""

import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from benchmark.calls import seconds_of
from benchmark.plan import Run
from benchmark.protocol import dataset_stems
from benchmark.report.log_parser import read_logs
from experiment.cli import expected
from experiment.run_state import ASIDE, differences, fingerprint, read_results
from trainers import requires_training

logger = logging.getLogger(__name__)

NUMBER = (int, float)
# What the report reads of results.json, and its types; a file that lacks one is another program's.
KEYS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("trainer", "dataset", "subsample", "device"), str),
    **dict.fromkeys(("shots", "seed", "correct", "total", "trainable_parameters"), int),
    **dict.fromkeys(("accuracy", "peak_memory_mb"), NUMBER),
    **{"seconds": dict, "commit": (str, type(None)), "command": list, "config": dict},
}
# What older ones lack, and what the page has next to the accuracy.
LATER: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("macro_f1", "ece", "adaptive_ece"), NUMBER),
    **dict.fromkeys(("per_class", "bins", "adaptive_bins", "confusion"), list),
}
SECTIONS = {"config": ("DATASET", "TEST", "TRAINER", "SEED"), "seconds": ("training", "evaluation")}


@dataclass(frozen=True)
class Result:
    """Hold one finished evaluation: its folder, and what is in its results.json."""

    folder: Path
    data: Mapping

    @property
    def accuracy(self) -> float:
        return self.data["accuracy"]

    @property
    def command(self) -> str:
        return shlex.join(["python", *self.data["command"]])

    @property
    def seconds(self) -> float:
        return seconds_of(self.data)

    @property
    def of_runner(self) -> bool:
        """Return whether its folder is of the runner's layout."""
        return self.folder.parent.name.startswith("seed") and self.folder.name.startswith("t")


class Results:
    """Hold all results below a folder.

    A run of a protocol is found in its own folder, or anywhere else if its configuration is exactly
    the protocol's: runs made by hand count as well.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.all = list(_find(output))
        self.logs = read_logs(output)
        self.used: set[Path] = set()
        self._placed = {result.folder.resolve(): result for result in self.all}
        self._by_hand = [result for result in self.all if not result.of_runner]

    def of(self, run: Run) -> Result | None:
        """Return the result of a run, or None where it is missing."""
        placed = self._placed.get((self.output / run.folder).resolve())
        return placed or next((r for r in self._by_hand if _is(r, run)), None)

    @property
    def others(self) -> list[Result]:
        """Return what no table has used."""
        return [result for result in self.all if result.folder not in self.used]


def _find(output: Path) -> Iterator[Result]:
    for path in sorted(output.rglob("results.json")):
        if any(ASIDE.search(part) for part in path.relative_to(output).parts):
            continue
        data = _read(path)
        if data is not None:
            yield Result(path.parent, data)


def _read(path: Path) -> Mapping | None:
    """Return a results.json; a broken or foreign one is passed over with a warning."""
    try:
        data = read_results(path)
        reason = _strange(data)
    except (OSError, ValueError) as error:
        reason = str(error).removeprefix(f"{path}: ")
    if reason:
        logger.warning("Passed over %s: %s.", path, reason)
        return None
    return data


def _strange(data: Mapping) -> str:
    """Return what is not as a run writes it, or nothing."""
    lacking = KEYS.keys() - data.keys()
    if lacking:
        return f"it lacks {', '.join(sorted(lacking))}"
    kinds = {**KEYS, **{key: kind for key, kind in LATER.items() if key in data}}
    wrong = [key for key, kind in kinds.items() if not isinstance(data[key], kind)]
    wrong += [k for k, parts in SECTIONS.items() if k not in wrong and not {*parts} <= {*data[k]}]
    checkpoint = data.get("evaluated_checkpoint")
    if checkpoint and not {"path", "epoch"} <= set(checkpoint):
        wrong.append("evaluated_checkpoint")
    return f"no run writes such a value of {', '.join(sorted(wrong))}" if wrong else ""


def _is(result: Result, run: Run) -> bool:
    """Return whether a result made by hand is what a run would be, and of the same prompts."""
    data = result.data
    found = (data["trainer"], data["seed"], dataset_stems().get(data["dataset"]))
    if found != (run.trainer, run.seed, run.dataset) or deviations(run, result):
        return False
    if not requires_training(run.trainer):
        return True
    checkpoint = data.get("evaluated_checkpoint")
    if checkpoint and not _is_final(checkpoint, data["config"]):
        return False
    if run.training is None:
        return True
    training = checkpoint and Path(checkpoint["path"]).parents[1] / "results.json"
    before = _read(training) if training and training.exists() else None
    if before is None:
        return False  # what these prompts were trained on is not known
    return fingerprint(before["config"]) == fingerprint(_config(run.training))


def _is_final(checkpoint: Mapping, config: Mapping) -> bool:
    """Return whether these are the prompts that a training ends with, not those of some epoch."""
    if Path(checkpoint["path"]).name == "model-best.pth.tar":
        return config["TEST"]["FINAL_MODEL"] == "best_val"
    return checkpoint["epoch"] == config["OPTIM"]["MAX_EPOCH"]


def deviations(run: Run, result: Result) -> dict[str, tuple]:
    """Return the keys in which a result's configuration is not the protocol's, with both values.

    Seeds and folders apart, each kind of run is compared once.
    """
    found = result.data["config"]
    text = json.dumps({**found, "SEED": 1, "OUTPUT_DIR": ""}, sort_keys=True)
    training = run.training and replace(run.training, seed=1, folder=Path("train"))
    plain = replace(run, seed=1, folder=Path("run"), training=training)
    seeds = {} if found["SEED"] == run.seed else {"SEED": (found["SEED"], run.seed)}
    return {**_differences(plain, text), **seeds}


@cache
def _differences(run: Run, config: str) -> dict[str, tuple]:
    return differences(json.loads(config), _config(run))


def _config(run: Run) -> Mapping:
    return expected(run.arguments("", Path("output")))
