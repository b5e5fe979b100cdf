"""The output folder: what may begin in it, what it holds of an earlier run, how to resume."""

import argparse
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import load_checkpoint
from yacs.config import CfgNode

from experiment.exit_status import ADVICE
from experiment.run_state import (
    CONFIG,
    differences,
    has_results,
    is_finished,
    latest,
    read_config,
)
from prompting.files import write_atomically
from trainers.results import FILE_NAME

SHOWN = 5  # names of what a folder holds, in a message


def check_output(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Refuse to run over another run by accident, or to resume as another run than it was.

    Raises:
        ValueError: what is in the way, and what to do.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if cfg.RESUME:
        _check_resume(cfg, args, folder)
        return
    if args.eval_only and args.model_dir and _same(Path(args.model_dir), folder):
        raise ValueError(f"{folder} holds the prompts to evaluate: pass another --output-dir.")
    held = _held(folder)
    shown = ", ".join([*held[:SHOWN], *(["..."] if len(held) > SHOWN else [])])
    is_run = has_results(folder) if FILE_NAME in held else CONFIG in held
    if args.overwrite:
        if held and not is_run:
            raise ValueError(
                f"{folder} holds no run that --overwrite could replace ({shown}): pass another "
                "--output-dir."
            )
    # A run that was stopped before it had anything to save is in nobody's way.
    elif set(held) - {CONFIG, "tensorboard"} and is_run:
        raise ValueError(
            f"Output folder {folder} holds a run already ({shown}): pass another --output-dir, "
            f"--resume {folder} to resume an interrupted run, or --overwrite to delete it and "
            "begin again."
        )
    elif set(held) - {CONFIG, "tensorboard"}:
        raise ValueError(
            f"Output folder {folder} holds other files and no run ({shown}): pass a new or empty "
            "--output-dir."
        )


def make_folder(folder: Path) -> None:
    """Make the output folder, if missing.

    Raises:
        ValueError: no folder can be there: the path is a file's, or below one, for example.
        OSError: the machine's fault, such as a full disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in ADVICE:
            raise
        raise ValueError(
            f"No folder can be made at --output-dir {folder} ({error.strerror}): pass another."
        ) from error


def _held(folder: Path) -> list[str]:
    """Return what lies in the folder; not hidden files and logs, which refused runs leave too."""
    return sorted(p.name for p in folder.glob("[!.]*") if not p.name.startswith("log.txt"))


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _check_resume(cfg: CfgNode, args: argparse.Namespace, folder: Path) -> None:
    if args.overwrite or args.eval_only:
        given = "--overwrite" if args.overwrite else "--eval-only"
        raise ValueError(f"--resume resumes a training run: drop it, or {given}.")
    if not _same(Path(cfg.RESUME), folder):
        raise ValueError(f"A run resumes in its own folder: drop --output-dir {folder}.")
    if is_finished(folder) and not has_results(folder):
        raise ValueError(
            f"{folder / FILE_NAME} is not of a run, and the run would replace it: move it away."
        )
    if is_finished(folder):
        raise ValueError(f"The run in {folder} is finished: its figures are in {FILE_NAME}.")
    checkpoint = latest(folder)
    if checkpoint and not (folder / CONFIG).exists():
        raise ValueError(
            f"{folder} holds a checkpoint but not its {CONFIG}, without which nobody knows how to "
            "resume: evaluate it with --eval-only --model-dir, or train in another --output-dir."
        )
    if not (folder / CONFIG).exists() and (_held(folder) or not folder.is_dir()):
        raise ValueError(
            f"There is no checkpoint in {folder} to resume from; a run that may be interrupted "
            "writes them with TRAIN.CHECKPOINT_FREQ 1."
        )
    if (folder / CONFIG).exists():
        changed = differences(read_config(folder), cfg, exactly=True).items()
        if changed:
            text = "; ".join(f"{key} {was}, and this one {now}" for key, (was, now) in changed)
            raise ValueError(
                f"The run in {folder} has {text}: pass the same, or begin a new run in "
                "another --output-dir."
            )
    if checkpoint:
        load_checkpoint(str(checkpoint))  # refuse a broken one before data or models are loaded


def prepare_output(cfg: CfgNode, overwrite: bool) -> None:
    """Delete the run to be replaced and what an interrupted one left; write the configuration."""
    folder = Path(cfg.OUTPUT_DIR)
    if overwrite:
        _delete_run(folder)
    for part in [*folder.glob(".*.part"), *folder.glob("*/.*.part")]:
        part.unlink(missing_ok=True)
    write_atomically(folder / CONFIG, cfg.dump().encode())


def _delete_run(folder: Path) -> None:
    """Delete what a run writes, and nothing else; its logs stay."""
    # The best model may lie there alone: no index names it.
    for path in [*folder.glob("*/checkpoint"), *folder.glob("*/model*.pth.tar*")]:
        path.unlink()
    for name in (FILE_NAME, CONFIG, "cmat.pt"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def how_to_resume(cfg: CfgNode, words: Sequence[str], evaluates: bool) -> str:
    """Return a sentence on what was saved, and the command that resumes from there."""
    checkpoint = None if evaluates else latest(Path(cfg.OUTPUT_DIR))
    again = [word for word in words if word != "--overwrite"]
    if checkpoint is None:
        what = "There was nothing to save" if evaluates else "Nothing was saved yet"
        return f"{what}; run again: {shlex.join(['python', 'train.py', *again])}"
    if not cfg.RESUME:
        again = ["--resume", cfg.OUTPUT_DIR, *again]
    return f"Saved is {checkpoint}; resume with: {shlex.join(['python', 'train.py', *again])}"
