"""All protocols on the demo world, small but complete, up to the page: `make rehearsal`.

What to run before spending GPU days. A rehearsal that was interrupted goes on; one that is finished
moves to a dated name, and the next begins anew.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmark import report, run
from benchmark.runs import Run
from benchmark.state import set_aside
from benchmark.worker import Call

PARTS = (
    ["base2new", "--trainers", "all"],
    ["domain_generalization", "cross_dataset", "--trainers", "ZeroshotCLIP,MMLoP"],
    ["few_shot", "--trainers", "ZeroshotCLIP,IVLP,MMLoP"],
    ["ablation_components", "ablation_rank"],
)
SEEDS = (1, 2)
SETTINGS = ["OPTIM.MAX_EPOCH", "4"]


def plan(output: Path, jobs: int) -> list[tuple[Run, Call]]:
    """The runs of all parts; what several need stands once."""
    planned = {}
    for args in _parts(output, jobs):
        planned.update({call.folder: (each, call) for each, call in run.plan(args)})
    return list(planned.values())


def _parts(output: Path, jobs: int) -> list[argparse.Namespace]:
    flags = ["--root", "demo", "--output", str(output), "--jobs", str(jobs)]
    flags += ["--seeds", ",".join(map(str, SEEDS))]
    return [run.parse_args([*part, *flags, *SETTINGS]) for part in PARTS]


def rehearse(output: Path, jobs: int) -> int:
    """Run all parts as one, then write OUT/report/index.html; returns the exit status."""
    if (output / "report" / "index.html").exists():
        print(f"An earlier rehearsal is now in {set_aside(output)}.")
    began = time.monotonic()
    again = f"python -m benchmark.rehearsal --output {output}"
    status = run.execute(plan(output, jobs), _parts(output, jobs)[0], lambda _: again)
    if status != 130:
        report.report(output, [], "terminal", SEEDS)
        report.report(output, [], "html", SEEDS)
        print(f"The rehearsal took {(time.monotonic() - began) / 60:.1f} minutes.")
    return status


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("output", "rehearsal"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    args = parser.parse_args()
    sys.exit(rehearse(args.output, args.jobs))


if __name__ == "__main__":
    main()
