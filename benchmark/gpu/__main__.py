"""Prove on a machine with a GPU that all of this works there, and measure it.

    python -m benchmark.gpu --output gpu.json

Each section runs in its own process with a time limit, since a CUDA error stays with its process.
One line per check, PASS or FAIL, with what was found; the whole goes into the JSON file, which is
written after every section. The exit status is 0 if all passed, 1 if any failed, and 7 where there
is no GPU. With --device cpu the sections run as far as a CPU can, small.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from dassl.utils import write_json

from benchmark import command_line
from benchmark.gpu import figures, runs, sections
from benchmark.gpu.machine import ROOT, Machine
from benchmark.protocol import comma
from experiment.exit_status import NO_GPU, UNEXPECTED
from trainers.results import commit


class Section(NamedTuple):
    checks: object  # from a Machine to its checks
    limit: float  # seconds


SECTIONS = {
    "environment": Section(sections.environment, 60),
    "routing": Section(runs.routing, 300),
    "compute": Section(sections.compute, 600),
    "capture": Section(sections.capture, 600),
    "recovery": Section(sections.recovery, 120),
    "runs": Section(runs.runs, 600),
    "weights": Section(sections.weights, 120),
    "speed": Section(figures.speed, 600),
    "loop": Section(runs.loop, 300),
    "memory": Section(figures.memory, 300),
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("benchmark.gpu", __doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="file of all figures")
    parser.add_argument("--sections", type=comma, default=list(SECTIONS), help=", ".join(SECTIONS))
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # the section of this process
    args = parser.parse_args(argv)
    for name in args.sections:
        if name not in SECTIONS:
            parser.error(f"--sections {name} is unknown: choose {', '.join(SECTIONS)}.")
    return args


def run_section(name: str, device: str, output: Path) -> None:
    """Run a section in this process; write a line of JSON per check."""
    with tempfile.TemporaryDirectory() as scratch, output.open("w") as file:
        os.environ["MMLOP_CACHE"] = f"{scratch}/cache"
        try:
            for check in SECTIONS[name].checks(Machine(device, Path(scratch))):
                print(json.dumps(check._asdict()), file=file, flush=True)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps({"name": "the end", "passed": False, "found": found}), file=file)


def call_section(name: str, device: str) -> list[dict]:
    """Run a section in its own process; return its checks."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "checks")
        command = [sys.executable, "-m", "benchmark.gpu", "--inside", name, "--device", device]
        process = subprocess.Popen(
            [*command, "--output", str(output)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts can be ended with it
        )
        try:
            ending = process.wait(SECTIONS[name].limit)
        except subprocess.TimeoutExpired:
            ending = f"after its limit of {SECTIONS[name].limit:.0f} seconds"
        finally:  # after Ctrl-C too
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        checks = []
        with suppress(FileNotFoundError, json.JSONDecodeError):  # a killed one's last line is torn
            for line in output.read_text().splitlines():
                checks.append(json.loads(line))
    if ending:
        checks.append({"name": "the end", "passed": False, "found": {"ended": ending}})
    return checks


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.inside:
        run_section(args.inside, args.device, args.output)
        return
    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            "benchmark.gpu: PyTorch finds no GPU here. On a machine that has one, check the driver "
            "and that this PyTorch is built for CUDA; --device cpu runs what a CPU can.",
            file=sys.stderr,
        )
        sys.exit(NO_GPU)
    content = {"commit": commit(), "device": args.device, "sections": {}}
    for name in args.sections:
        checks = content["sections"][name] = call_section(name, args.device)
        for check in checks:
            print(f"{'PASS' if check['passed'] else 'FAIL'} {name}: {check['name']}")
            print(f"     {json.dumps(check['found'])}"[:200], flush=True)
        write_json(content, str(args.output))
    every = [check["passed"] for checks in content["sections"].values() for check in checks]
    print(f"{sum(every)} of {len(every)} passed; the figures are in {args.output}")
    sys.exit(0 if all(every) else UNEXPECTED)


if __name__ == "__main__":
    main()
