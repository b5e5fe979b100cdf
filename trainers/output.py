"""The output folder: what may be started in it, what it holds of an earlier run, how to go on."""

import argparse
import logging
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml
from dassl.utils import load_checkpoint
from yacs.config import CfgNode

from trainers.config import flatten, value_of
from trainers.results import FILE_NAME

CONFIG = "config.yaml"
# Keys in which a resumed run may differ from its beginning: none of them changes a number.
MAY_DIFFER = (
    "DATALOADER.CACHE_MB", "DATASET.ROOT", "INPUT.SIZE", "MODEL.BACKBONE.TRUST", "OUTPUT_DIR",
    "RESUME", "TRAIN.CHECKPOINT_FREQ", "TRAIN.CHECKPOINT_STEPS", "TRAIN.CUDA_GRAPH",
    "TRAIN.PRINT_FREQ", "VERBOSE",
)  # fmt: skip

logger = logging.getLogger("dassl")


def check_output(cfg: CfgNode, args: argparse.Namespace) -> None:
    """A run never goes on top of another by accident, nor goes on as another than it was.

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
    if args.overwrite:
        if held and not {CONFIG, FILE_NAME} & set(held):
            raise ValueError(
                f"{folder} holds no run that --overwrite could replace ({', '.join(held)}): pass "
                "another --output-dir."
            )
    # A run that was stopped before it had anything to save stands in nobody's way.
    elif set(held) - {CONFIG, "tensorboard"}:
        raise ValueError(
            f"Output folder {folder} holds a run already ({', '.join(held)}): pass another "
            f"--output-dir, --resume {folder} to go on with an interrupted run, or --overwrite to "
            "delete it and start anew."
        )


def _held(folder: Path) -> list[str]:
    """What lies in the folder beside logs, which a refused run leaves too, and hidden files."""
    return sorted(p.name for p in folder.glob("[!.]*") if not p.name.startswith("log.txt"))


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _check_resume(cfg: CfgNode, args: argparse.Namespace, folder: Path) -> None:
    if args.overwrite or args.eval_only:
        given = "--overwrite" if args.overwrite else "--eval-only"
        raise ValueError(f"--resume goes on with a training run: drop it, or {given}.")
    if not _same(Path(cfg.RESUME), folder):
        raise ValueError(f"A run goes on in its own folder: drop --output-dir {folder}.")
    if (folder / FILE_NAME).exists():
        raise ValueError(f"The run in {folder} is finished: its figures are in results.json.")
    checkpoint = latest(folder)
    if checkpoint and not (folder / CONFIG).exists():
        raise ValueError(
            f"{folder} holds a checkpoint but not its {CONFIG}, without which nobody knows how to "
            "go on: evaluate it with --eval-only --model-dir, or train in another --output-dir."
        )
    if not (folder / CONFIG).exists() and (_held(folder) or not folder.is_dir()):
        raise ValueError(
            f"There is no checkpoint in {folder} to go on from; a run that may be interrupted "
            "writes them with TRAIN.CHECKPOINT_FREQ 1."
        )
    if (folder / CONFIG).exists():
        _check_same_run(cfg, folder)
    if checkpoint:
        load_checkpoint(str(checkpoint))  # a broken one is told before data or models are loaded


def _check_same_run(cfg: CfgNode, folder: Path) -> None:
    try:
        before = CfgNode.load_cfg((folder / CONFIG).read_text())
    except (ValueError, AttributeError, yaml.YAMLError) as error:
        raise ValueError(f"{folder / CONFIG} was changed and cannot be read: {error}") from error
    other = []
    for key in flatten(cfg):
        was, now = _compared(before, key), _compared(cfg, key)
        if key not in MAY_DIFFER and was != now:
            other.append(f"{key} {was}, and this one {now}")
    if other:
        raise ValueError(f"The run in {folder} has {'; '.join(other)}.")


def _compared(cfg: CfgNode, key: str):
    try:
        value = value_of(cfg, key)
    except KeyError:
        return "not known"
    if key == "DATALOADER.NUM_WORKERS":
        # Any number of workers draws the same augmentations, and none draws others.
        return "above 0" if value > 0 else 0
    return list(value) if isinstance(value, tuple) else value


def latest(folder: Path) -> Path | None:
    """The checkpoint from which a run in this folder goes on."""
    try:
        from dassl.utils import latest_checkpoint
    except ImportError:  # upstream's engine, on which runs are not resumed by us
        return None
    found = (latest_checkpoint(index.parent) for index in sorted(folder.glob("*/checkpoint")))
    return next((path for path in found if path), None)


def prepare_output(cfg: CfgNode, overwrite: bool) -> None:
    """Delete the run to be replaced and what a killed one left half written; keep the config."""
    folder = Path(cfg.OUTPUT_DIR)
    if overwrite:
        _delete_run(folder)
    for part in [*folder.glob(".*.part"), *folder.glob("*/.*.part")]:
        part.unlink(missing_ok=True)
    draft = folder / f".{CONFIG}.part"
    with draft.open("w", encoding="utf-8") as file:
        file.write(cfg.dump())
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, folder / CONFIG)


def _delete_run(folder: Path) -> None:
    """Delete what a run writes, and nothing else; its logs stay."""
    # The best model may lie there alone: no index names it.
    for path in [*folder.glob("*/checkpoint"), *folder.glob("*/model*.pth.tar*")]:
        path.unlink()
    for name in (FILE_NAME, CONFIG, "cmat.pt"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def how_to_go_on(cfg: CfgNode, words: Sequence[str], evaluates: bool) -> str:
    """What was saved, and the command that goes on from there."""
    checkpoint = None if evaluates else latest(Path(cfg.OUTPUT_DIR))
    again = [word for word in words if word != "--overwrite"]
    if checkpoint is None:
        what = "There was nothing to save" if evaluates else "Nothing was saved yet"
        return f"{what}; start again with: {shlex.join(['python', 'train.py', *again])}"
    if not cfg.RESUME:
        again = ["--resume", cfg.OUTPUT_DIR, *again]
    return f"Saved is {checkpoint}; go on with: {shlex.join(['python', 'train.py', *again])}"
