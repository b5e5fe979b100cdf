"""Hold the calls of train.py that a command makes, in units of one process each, as a file.

The file is the same for whoever runs a unit, here or on a cluster, and for who looks how far it is.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.failures import write_text

JOBS = "jobs"  # folder of plans, and of Slurm's logs, below the output folder


@dataclass(frozen=True)
class Call:
    """Hold one call of train.py.

    Attributes:
        arguments: what follows `python train.py`.
        folder: of its output.
        trains: whether it is a training.
        needs: folder of the training whose prompts it tests, if any.
        needed: the arguments of that training.
        group: the folder that holds those of all seeds, where these are to be stepped together.
        steps: of the training, if their number is known.
    """

    arguments: Sequence[str]
    folder: Path
    trains: bool
    needs: Path | None = None
    needed: Sequence[str] = ()
    group: Path | None = None
    steps: int = 0


def seconds_of(record: Mapping) -> float:
    """Return the seconds of a results.json; seeds stepped together share those of training."""
    seconds, seeds = record["seconds"], record.get("together", [1])
    return seconds["training"] / len(seeds) + seconds["evaluation"]


@dataclass(frozen=True)
class Plan:
    """Hold what a command is to run.

    Attributes:
        output: the folder of all runs.
        units: the calls of each process, a training before its tests.
        aside: set runs of another configuration aside instead of refusing them.
        stage: folder on the node's own disk to copy data sets to, if any.
    """

    output: Path
    units: Sequence[Sequence[Call]]
    aside: bool = False
    stage: str = ""

    @property
    def calls(self) -> list[Call]:
        return [call for unit in self.units for call in unit]

    def write(self) -> Path:
        """Write it below the output folder, under a name that depends on its content alone."""
        content = json.dumps(asdict(self), default=str)
        name = f"plan-{hashlib.sha256(content.encode()).hexdigest()[:12]}.json"
        return write_text(self.output / JOBS / name, content)


def read_plan(path: Path) -> Plan:
    """Read what `Plan.write` has written."""
    content = json.loads(path.read_text(encoding="utf-8"))
    units = [[_call(call) for call in unit] for unit in content["units"]]
    return Plan(**{**content, "output": Path(content["output"]), "units": units})


def _call(content: dict) -> Call:
    paths = {key: Path(content[key]) for key in ("folder", "needs", "group") if content[key]}
    return Call(**{**content, **paths})


def unit_name(plan: Plan, number: int) -> str:
    """Return the folder of a unit, below the output folder: of a seed, or of all."""
    call = plan.units[number][0]
    return os.path.relpath(call.group or call.folder.parent, plan.output)


def units(calls: Sequence[Call]) -> list[list[Call]]:
    """Group calls by what one process does: their group, or the folder above theirs.

    Trainings come first, so that no long one is left to the end.
    """
    found: dict[Path, list[Call]] = {}
    for call in calls:
        found.setdefault(call.group or call.folder.parent, []).append(call)
    return sorted(found.values(), key=lambda unit: not unit[0].trains)
