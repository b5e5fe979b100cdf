"""Run the main job on the demo world: `python -m benchmark.demo`.

16-shot base-to-new with zero-shot CLIP, IVLP and MMLoP, seeds 1 to 3 (zero-shot CLIP depends on no
seed and runs once): the protocol base2new with fewer epochs. Prints its table.
"""

import shlex
import sys
from pathlib import Path

from benchmark import command_line, run
from benchmark.report import report
from experiment.run_state import set_aside

PROTOCOL = ["base2new", "--root", "demo", "--trainers", "ZeroshotCLIP,IVLP,MMLoP"]
SETTINGS = ["OPTIM.MAX_EPOCH", "12"]  # under four minutes on 2 slow cores


def main() -> None:
    parser = command_line("benchmark.demo", __doc__)
    parser.add_argument("--output", type=Path, default=Path("output", "demo"))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--jobs", default="2", help="runs at once")
    args = parser.parse_args()
    aside = set_aside(args.output)
    if aside:
        print(f"{args.output} held earlier runs: they are now in {aside}; none is reused.")
    flags = ["--output", str(args.output), "--seeds", args.seeds, "--jobs", args.jobs]
    command = ["python", "-m", "benchmark.run", *PROTOCOL, *flags]
    retry = shlex.join([*command, "--retry-failed", *SETTINGS])
    resume = f"run: {shlex.join([*command, *SETTINGS])}"  # this one begins again
    parsed = run.parse_args([*PROTOCOL, *flags, *SETTINGS])
    status = run.execute(run.plan(parsed), parsed, retry, resume)
    report(args.output, ["base2new"], "terminal", parsed.seeds)
    print(f"\nA page of all runs: python -m benchmark.report {args.output} --format html")
    sys.exit(status)


if __name__ == "__main__":
    main()
