"""Run every protocol on the demo world, small but complete, up to the page: `make smoke-test`.

What to run before spending GPU days. A smoke test that was interrupted, or that failed, is resumed;
one that ended well moves to a dated name, and the next begins from nothing.
"""

import sys
import time
from argparse import Namespace
from pathlib import Path

from benchmark import command_line, run
from benchmark.calls import Call
from benchmark.failures import read_failures
from benchmark.plan import Run
from benchmark.report import report
from experiment.run_state import set_aside

FOR_FEW_SHOTS = "CLIPAdapter,LPPlusPlus,TaskRes,TipAdapter,TipAdapterF"
PARTS = (
    ["base2new", "--trainers", "all"],
    ["domain_generalization", "cross_dataset", "--trainers", "ZeroshotCLIP,MMLoP"],
    ["few_shot", "few_shot_vit_b32", "--trainers", "ZeroshotCLIP,MMLoP"],
    ["few_shot", "--trainers", FOR_FEW_SHOTS, "--shots", "16"],
    ["components", "sensitivity_rank", "sensitivity_length", "sensitivity_depth", "logits_loss"],
)
SEEDS = (1, 2)
SETTINGS = ["OPTIM.MAX_EPOCH", "2"]


def plan(output: Path, jobs: int) -> list[tuple[Run, Call]]:
    """Return the runs of all parts; what several need stands once."""
    planned = {}
    for args in _parts(output, jobs):
        planned.update({call.folder: (each, call) for each, call in run.plan(args)})
    return list(planned.values())


def _parts(output: Path, jobs: int) -> list[Namespace]:
    flags = ["--root", "demo", "--output", str(output), "--jobs", str(jobs)]
    flags += ["--seeds", ",".join(map(str, SEEDS))]
    return [run.parse_args([*part, *flags, *SETTINGS]) for part in PARTS]


def smoke_test(output: Path, jobs: int) -> int:
    """Run all parts as one, then write OUT/report/index.html; return the exit status."""
    if (output / "report" / "index.html").exists() and not read_failures(output):
        print(f"An earlier smoke test is now in {set_aside(output)}.")
    began = time.monotonic()
    status = run.execute(plan(output, jobs), _parts(output, jobs)[0], "repeat the command")
    if status != 130:
        report(output, [], "terminal", SEEDS)
        report(output, [], "html", SEEDS)
        print(f"The smoke test took {(time.monotonic() - began) / 60:.1f} minutes.")
    return status


if __name__ == "__main__":
    command_line("benchmark.smoke_test", __doc__).parse_args()
    sys.exit(smoke_test(Path("output", "smoke_test"), jobs=2))
