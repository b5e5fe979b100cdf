"""Base-to-new runs, several at once: train on the base classes, evaluate on base and new.

Every job is a process of its own, so that its memory is its own and Ctrl-C ends them all. They are
forked from one that has imported PyTorch, which takes as long as evaluating the demo world.
"""

import io
import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tqdm import tqdm

PROCESSES = multiprocessing.get_context("forkserver")
EPOCH_LINE = re.compile(r"^epoch \[(\d+)/(\d+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """One seed of one method.

    Attributes:
        label: what the table calls the method.
        trainer: its registry name.
        seed: seed of draws, initialisation and data order.
        folder: where base/ and new/ are written.
        flags: further flags of train.py, such as ("--dataset-config-file", "...").
        options: KEY VALUE pairs.
    """

    label: str
    trainer: str
    seed: int
    folder: Path
    flags: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        return self.trainer != "ZeroshotCLIP"


def run_jobs(jobs: Sequence[Job], workers: int) -> list[dict]:
    """Run all jobs, `workers` at once, each on one thread, under one progress bar.

    Returns:
        One row a job, in order: label, seed, and the contents of both results.json.

    Raises:
        RuntimeError: a run failed; says which and why, after the others have ended.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited; several runs at once need no more
    PROCESSES.set_forkserver_preload(["train", "torch.utils.tensorboard"])
    with ThreadPoolExecutor(workers) as pool:
        # The last job first: methods are listed from cheap to dear, and a dear one at the end
        # would keep one worker busy and the others waiting.
        futures = [pool.submit(_base_to_new, job) for job in reversed(jobs)][::-1]
        try:
            _watch(jobs, futures)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    failed = [
        f"{job.label} seed {job.seed} in {job.folder}: {future.exception()}"
        for job, future in zip(jobs, futures, strict=True)
        if future.exception()
    ]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(jobs)} runs failed.\n" + "\n".join(failed))
    return [future.result() for future in futures]


def set_aside(folder: Path) -> None:
    """Make room for a fresh start: what is there moves to a name with its date."""
    if not folder.exists():
        return
    date = time.strftime("%Y%m%d-%H%M%S", time.localtime(folder.stat().st_mtime))
    aside = folder.with_name(f"{folder.name}-{date}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}-{date}-{number}")
    shutil.move(folder, aside)
    print(f"{folder} held earlier runs: they are now in {aside}; nothing of them is reused.")


def _base_to_new(job: Job) -> dict:
    """Run a job in a process of its own; what train.py says is in the folders' log.txt."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_work, args=(commands(job), sender), daemon=True)
    process.start()
    sender.close()
    try:
        failure = receiver.recv()
    except EOFError:
        failure = "the process was ended from outside"
    process.join()
    if failure:
        raise RuntimeError(failure)
    row = {"label": job.label, "seed": job.seed}
    for name in ("base", "new"):
        row[name] = json.loads((job.folder / name / "results.json").read_text())
    return row


def _work(calls: Sequence[Sequence[str]], sender: Connection) -> None:
    """Call train.py with each list of arguments; send what went wrong, or nothing."""
    failure, said = "", io.StringIO()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(said):
        try:
            for arguments in calls:
                _call(arguments)
        except SystemExit as error:
            failure = f"{said.getvalue().strip().splitlines()[-1]} (exit status {error.code})"
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    sender.send(failure)


def commands(job: Job) -> list[list[str]]:
    """The arguments of train.py for the base classes, then for the new ones."""
    base, new = (str((job.folder / half).resolve()) for half in ("base", "new"))
    fixed = ["--trainer", job.trainer, "--seed", str(job.seed), *job.flags]
    load = ["--eval-only", "--model-dir", base] if job.trains else ["--eval-only"]
    return [
        [*fixed, "--output-dir", base, "DATASET.SUBSAMPLE_CLASSES", "base", *job.options],
        [*fixed, "--output-dir", new, *load, "DATASET.SUBSAMPLE_CLASSES", "new", *job.options],
    ]


def _call(arguments: Sequence[str]) -> None:
    """`python train.py ...` in this process; results.json records the command."""
    import train

    sys.argv = ["train.py", *arguments]
    train.main(arguments)


def _watch(jobs: Sequence[Job], futures: Sequence[Future]) -> None:
    """Show progress until all are done, as read from the runs' own logs."""
    weights = [1.0 if job.trains else 0.1 for job in jobs]  # zero-shot only evaluates
    layout = "{l_bar}{bar}| {elapsed} + {remaining}{postfix}"
    # A terminal redraws one line; a log file gets a line only now and then.
    pause = 0.5 if sys.stderr.isatty() else 15.0
    with tqdm(total=100, bar_format=layout, dynamic_ncols=True, mininterval=pause) as bar:
        while bar.n < 100:
            time.sleep(0.5)
            shares = [1.0 if f.done() else _share(j) for j, f in zip(jobs, futures, strict=True)]
            done = sum(share * weight for share, weight in zip(shares, weights, strict=True))
            ended = sum(f.done() for f in futures)
            reached = 100 if ended == len(jobs) else round(99 * done / sum(weights), 1)
            bar.set_postfix_str(f"{ended} of {len(jobs)} runs", refresh=False)
            bar.update(reached - bar.n)


def _share(job: Job) -> float:
    """How much of a job's epochs its log says are done."""
    log = job.folder / "base" / "log.txt"
    if not log.exists():
        return 0.0
    lines = EPOCH_LINE.findall(log.read_text(errors="replace"))
    return (int(lines[-1][0]) - 1) / int(lines[-1][1]) if lines else 0.0
