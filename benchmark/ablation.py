"""The paper's ablations on the demo world: `python -m benchmark.ablation [components rank sweep]`.

components  table 4: IVLP, then low rank, consistency, drift correction, shared up-projection
rank        table 5: ranks 1, 2, 4
sweep       what the paper leaves open, chosen on validation pictures: start of the factors and
            learning rate, then one U for all layers, and consistency before drift correction

Each part prints its table and writes OUTPUT/<part>.json.
"""

import argparse
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from dassl.utils import write_json

from benchmark.runs import Job, run_jobs, set_aside
from benchmark.tables import format_table, summarise

Options = Mapping[str, str]  # keys without "TRAINER.MMLOP.", but for those of other nodes

IVLP: Options = {"LOW_RANK": "False", "SCL": "False", "UDC": "False"}
COMPONENTS: dict[str, Options] = {
    "IVLP": IVLP,
    "+ low rank": {"SHARED_UP": "False", "SCL": "False", "UDC": "False"},
    "+ consistency": {"SHARED_UP": "False", "UDC": "False"},
    "+ drift correction": {"SHARED_UP": "False"},
    "+ shared up-projection": {},
}
RANKS: dict[str, Options] = {f"rank {rank}": {"RANK": str(rank)} for rank in (1, 2, 4)}
SWEEP: dict[str, Options] = {
    **{f"IVLP, LR {rate}": {**IVLP, "OPTIM.LR": rate} for rate in ("0.0025", "0.01")},
    **{
        f"INIT {init}, LR {rate}": {"INIT": init, "OPTIM.LR": rate}
        for init, rate in product(("svd", "normal", "zero"), ("0.0025", "0.01", "0.04"))
    },
    "UP_PER_LAYER False": {"UP_PER_LAYER": "False"},
    "SCL_AFTER_UDC False": {"SCL_AFTER_UDC": "False"},
}
PARTS = {"components": COMPONENTS, "rank": RANKS, "sweep": SWEEP}
ON_VALIDATION = ("sweep",)


def jobs(part: str, output: Path, seeds: list[int]) -> list[Job]:
    """MMLoP with the options of each row of a part, 16 shots, on the demo world."""
    split = "val" if part in ON_VALIDATION else "test"
    fixed = ("DATASET.NUM_SHOTS", "16", "TEST.SPLIT", split)
    return [
        Job(
            label, "MMLoP", seed, output / part / f"{row}" / f"seed{seed}", (), fixed + _pairs(opts)
        )
        for row, (label, opts) in enumerate(PARTS[part].items(), start=1)
        for seed in seeds
    ]


def _pairs(options: Options) -> tuple[str, ...]:
    full = {key if "." in key else f"TRAINER.MMLOP.{key}": value for key, value in options.items()}
    return tuple(part for pair in full.items() for part in pair)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="components, rank, sweep")
    parser.add_argument("--output", type=Path, default=Path("output", "ablation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}: choose {', '.join(PARTS)}")
    for part in args.parts or PARTS:
        set_aside(args.output / part)
        try:
            rows = run_jobs(jobs(part, args.output, args.seeds), args.jobs)
        except RuntimeError as error:
            sys.exit(f"ablation: {error}")
        summaries = summarise(rows)
        write_json({"summary": summaries, "runs": rows}, str(args.output / f"{part}.json"))
        print(f"\n{part}\n{format_table(summaries)}\n")


if __name__ == "__main__":
    main()
