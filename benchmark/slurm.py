"""Run the units of a plan on a Slurm cluster, as an array of jobs: by submitit, or by a script.

A job starts the same process as the scheduler of one machine. Slurm announces the time limit by a
signal: the unit then saves and ends, and its job returns to the queue, to resume from there.
"""

import os
import shlex
import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmark.calls import Plan, read_plan, unit_name
from benchmark.failures import change_json, record
from benchmark.status import RECORD, ask
from benchmark.unit import BUSY, ROOT, follow, start
from experiment.lock import slurm_job

LARGEST = 1000  # jobs of an array: Slurm's MaxArraySize is 1001 unless a cluster sets another
NOTICE = 120  # seconds from the signal to the time limit
SCRIPT = """\
#!/bin/bash
#SBATCH --requeue
{options}
export PYTHONPATH={root}:$PYTHONPATH
units=({numbers})
{python} -m benchmark.unit {plan} ${{units[$SLURM_ARRAY_TASK_ID]}} &
trap 'kill -TERM $!; wait $!; scontrol requeue ${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID' USR2
wait $!"""


class Job:
    """Run a unit on its node, where submitit calls it with the unit's number."""

    def __init__(self, plan: Path) -> None:
        self.plan = plan
        self.process: subprocess.Popen | None = None

    def __call__(self, number: int) -> None:
        plan, stopped = read_plan(self.plan), False
        self.process = start(self.plan, number)
        for outcome in follow(self.process, plan.units[number]):
            print(outcome.kind, outcome.folder, outcome.reason, flush=True)
            record(plan.output, [outcome])
            stopped |= outcome.kind == "stopped"
        if self.process.returncode == BUSY:
            print("another process has this unit", flush=True)
        # Before a preemption all processes get SIGTERM, which submitit ignores.
        if stopped and "RUNNING" in (ask("-j", slurm_job()) or {}).values():
            subprocess.run(["scontrol", "requeue", slurm_job()], check=True)

    def checkpoint(self, number: int) -> object:
        """Have the unit save and end; return what the requeued job is to call."""
        # Imported here because it is an extra.
        from submitit.helpers import DelayedSubmission

        if self.process:
            self.process.terminate()
            # Not `wait`: `follow`, which this interrupts, may be in there and hold its lock.
            with suppress(ChildProcessError):  # or have seen the end
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Job(self.plan), number)


def submit(plan: Plan, numbers: Sequence[int], args: Namespace) -> list[str]:
    """Submit units as an array, or several of LARGEST; return their jobs.

    Raises:
        ValueError: submitit is not installed, or Slurm refuses.
    """
    try:
        # Imported here because it is an extra.
        import submitit
    except ImportError as error:
        raise ValueError(
            "--launcher slurm needs submitit: pip install submitit, or --launcher print."
        ) from error
    path, jobs = plan.write(), {}
    try:
        executor = submitit.SlurmExecutor(path.parent, max_num_timeout=sys.maxsize)
        executor.update_parameters(
            job_name="mmlop",
            time=args.time,
            signal_delay_s=NOTICE,
            array_parallelism=args.array,
            setup=[f"export PYTHONPATH={shlex.quote(str(ROOT))}:$PYTHONPATH"],
            additional_parameters=_options(args),
        )
        for first in range(0, len(numbers), LARGEST):
            part = numbers[first : first + LARGEST]
            for number, job in zip(part, executor.map_array(Job(path), part), strict=True):
                jobs[unit_name(plan, number)] = job.job_id
    except RuntimeError as error:
        raise ValueError(f"Slurm takes no jobs: {' '.join(str(error).split())}") from error
    finally:
        change_json(plan.output / RECORD, lambda record: record.update(jobs))
    return list(jobs.values())


def script(plan: Plan, numbers: Sequence[int], args: Namespace) -> str:
    """Return a script for sbatch that runs the units as one array, without submitit."""
    path = plan.write()
    if len(numbers) > LARGEST:
        raise ValueError(f"An array holds {LARGEST} jobs, not {len(numbers)}: ask for a part.")
    options = {
        "job-name": "mmlop",
        "array": f"0-{len(numbers) - 1}%{args.array}",
        "time": args.time,
        "signal": f"B:USR2@{NOTICE}",
        "open-mode": "append",
        "output": path.parent / "%A_%a.log",
        "chdir": Path.cwd(),
        **_options(args),
    }
    words = [k if v is True else f"{k}={shlex.quote(str(v))}" for k, v in options.items()]
    lines = "\n".join(f"#SBATCH --{word}" for word in words)
    root, python, path = (shlex.quote(str(each)) for each in (ROOT, sys.executable, path))
    numbers = " ".join(map(str, numbers))
    return SCRIPT.format(options=lines, root=root, python=python, plan=path, numbers=numbers)


def minutes(text: str) -> int:
    """Read a time limit as Slurm does: minutes, H:MM:SS or D-HH[:MM[:SS]]."""
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        parts += [0] * (3 - len(parts))
    hours, minute, _ = parts if len(parts) > 1 else (0, *parts, 0)
    limit = (int(days or 0) * 24 + hours) * 60 + minute
    if limit * 60 <= NOTICE + 60:  # Slurm's signal may come a minute early
        raise ArgumentTypeError(f"a job is asked to save {NOTICE} seconds before: give it more")
    return limit


def option(text: str) -> tuple[str, str | bool]:
    """Read an option of sbatch, KEY=VALUE or a flag, whose value is True, as submitit has it."""
    key, equals, value = text.partition("=")
    return key, value if equals else True


def _options(args: Namespace) -> dict[str, object]:
    found = {"partition": args.partition, "gpus-per-node": args.gpus_per_job}
    return {**{key: value for key, value in found.items() if value}, **dict(args.sbatch)}
