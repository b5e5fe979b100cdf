"""Say what planned runs will take, and afterwards what they found."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from benchmark.calls import Call
from benchmark.failures import Outcome
from benchmark.plan import Run, config_of
from benchmark.workload import workload

LISTED = 12  # runs of which the figures are listed


def workload_table(parts: Mapping[str, Sequence[tuple[Run, Call]]]) -> str:
    """Return a table of what each part takes; a run that several need counts once in the total."""
    if len(parts) > 1:
        every = {call.folder: (run, call) for part in parts.values() for run, call in part}
        parts = {**parts, "all together": list(every.values())}
    rows = [
        {"": name, **workload((run.trains, config_of(call.arguments)) for run, call in planned)}
        for name, planned in parts.items()
    ]
    return tabulate(rows, headers="keys", intfmt=",")


def findings(
    planned: Sequence[tuple[Run, Call]], outcomes: Mapping[Path, Outcome], output: Path
) -> str:
    """Return a list of what a few runs found, or how many of many are finished."""
    kinds = [outcomes[call.folder].kind if call.folder in outcomes else "" for _, call in planned]
    if len(planned) > LISTED:
        finished = kinds.count("finished") + kinds.count("skipped")
        failed = f", {kinds.count('failed')} failed" if "failed" in kinds else ""
        return (
            f"{finished} of {len(planned)} runs are finished{failed}. "
            f"Tables: python -m benchmark.report {output}"
        )
    lines = [
        (run.row, run.dataset, run.classes, run.seed, _accuracy(call, kind), relative(call.folder))
        for (run, call), kind in zip(planned, kinds, strict=True)
    ]
    header = ("method", "data set", "classes", "seed", "accuracy", "folder")
    return tabulate(lines, headers=header, disable_numparse=True)


def report(
    planned: Sequence[tuple[Run, Call]],
    outcomes: Mapping[Path, Outcome],
    output: Path,
    retry: str,
) -> int:
    """Print what was found and what failed; return the exit status."""
    failed = [outcome for outcome in outcomes.values() if outcome.kind == "failed"]
    print(findings(planned, outcomes, output))
    if failed:
        print(f"\n{len(failed)} of {len(planned)} runs failed:", file=sys.stderr)
    for outcome in failed:
        print(f"  {relative(outcome.folder)}: {outcome.reason}", file=sys.stderr)
    if len(outcomes) < len(planned):
        print("Interrupted. To resume, repeat the command.", file=sys.stderr)
        return 130
    if failed:
        print(f"To repeat just these: {retry}", file=sys.stderr)
    return 1 if failed else 0


def _accuracy(call: Call, kind: str) -> str:
    if kind in ("finished", "skipped"):
        record = json.loads((call.folder / "results.json").read_text(encoding="utf-8"))
        return f"{record['accuracy']:.2f}"
    return kind or "unfinished"


def relative(path: Path | str) -> str:
    """Return a path below the current folder without what is above it."""
    return str(path).removeprefix(f"{Path.cwd()}{os.sep}")
