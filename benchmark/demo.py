"""The main job on the demo world: `python -m benchmark.demo`.

16-shot base-to-new with zero-shot CLIP, IVLP and MMLoP, seeds 1 to 3 (zero-shot CLIP depends on no
seed and runs once). Prints one table and writes OUTPUT/results.json.
"""

import argparse
import sys
from pathlib import Path

from dassl.utils import write_json

from benchmark.runs import Job, run_jobs, set_aside
from benchmark.tables import format_table, summarise

METHODS = ("ZeroshotCLIP", "IVLP", "MMLoP")


def demo_jobs(output: Path, seeds: list[int]) -> list[Job]:
    """The methods on the demo world, which train.py takes where no data set is named."""
    options = ("DATASET.NUM_SHOTS", "16", "OPTIM.MAX_EPOCH", "15")  # under four minutes on 2 cores
    jobs = [
        Job(method, method, seed, output / method / f"seed{seed}", options=options)
        for method in METHODS
        for seed in seeds
    ]
    return [job for job in jobs if job.trains or job.seed == seeds[0]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("output", "demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    args = parser.parse_args()
    set_aside(args.output)
    try:
        rows = run_jobs(demo_jobs(args.output, args.seeds), args.jobs)
    except RuntimeError as error:
        sys.exit(f"demo: {error}")
    summaries = summarise(rows)
    write_json({"summary": summaries, "runs": rows}, str(args.output / "results.json"))
    print(f"\n{format_table(summaries)}\n\nAll figures are in {args.output / 'results.json'}")


if __name__ == "__main__":
    main()
