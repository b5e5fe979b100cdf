"""Tell what an output folder holds: is this the same run, and how far is it?

A run is finished when its results.json is there, which is written last and at once. Two runs are
the same when everything agrees that their figures depend on; `fingerprint` is its hash.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import dassl.utils
import yaml

from experiment.config import defaults, flatten
from experiment.unread_keys import own_node
from trainers import requires_training
from trainers.checkpoint import FOLDER
from trainers.results import FILE_NAME

CONFIG = "config.yaml"
# Keys that change no figure.
WITHOUT_EFFECT = (
    "DATALOADER.CACHE_MB", "DATASET.ROOT", "INPUT.SIZE", "MODEL.BACKBONE.TRUST", "OUTPUT_DIR",
    "RESUME", "TRAIN.CHECKPOINT_FREQ", "TRAIN.CHECKPOINT_STEPS", "TRAIN.CUDA_GRAPH",
    "TRAIN.PRINT_FREQ", "TRAIN.TRACKER", "VERBOSE",
)  # fmt: skip
WORKERS = "DATALOADER.NUM_WORKERS"
# Keys that the figures of a method without training do not depend on either.
OF_TRAINING = ("OPTIM.", "TRAIN.", "DATALOADER.TRAIN", "DATASET.NUM_SHOTS", "INPUT.TRANSFORMS")
# What a run leaves in its folder before there is a checkpoint to resume from.
LEFTOVERS = (CONFIG, "tensorboard", FOLDER)

ASIDE = re.compile(r"-\d{8}-\d{6}(-\d+)?$")  # ends the name of what was set aside


@dataclass(frozen=True)
class RunState:
    """`kind` is new, begun, resumable, finished or changed; `differing` says how it changed."""

    kind: str
    differing: str = ""


def identity(config: Mapping, exactly: bool = False) -> dict:
    """Return what makes a run this run: flat keys to plain values, without those WITHOUT_EFFECT.

    Of TRAINER only the method's own node counts. Keys that a record lacks, because it is older,
    have their defaults.

    Args:
        exactly: count what draws other random numbers as well, from the same distribution: whether
            there are loader workers. (Any number of them draws the same augmentations.)
    """
    name = config["TRAINER"]["NAME"]
    own = ("TRAINER.NAME", _own_keys(name))
    idle = () if requires_training(name) else OF_TRAINING
    found = {**defaults(), **flatten(config)}
    found[WORKERS] = ("above 0" if found[WORKERS] > 0 else 0) if exactly else None
    return {
        key: json.loads(json.dumps(value))  # tuples become lists, as in a file
        for key, value in sorted(found.items())
        if key not in WITHOUT_EFFECT
        and not key.startswith(idle)
        and (not key.startswith("TRAINER.") or key.startswith(own))
    }


@cache
def _own_keys(trainer: str) -> str:
    """Return the prefix of the method's own keys; of an unknown method all nodes count."""
    node = own_node(trainer)
    return f"TRAINER.{node}." if node else "TRAINER."


def fingerprint(config: Mapping) -> str:
    """Return twelve hexadecimal digits for a configuration's identity."""
    return hashlib.sha256(json.dumps(identity(config)).encode()).hexdigest()[:12]


def differences(before: Mapping, now: Mapping, exactly: bool = False) -> dict[str, tuple]:
    """Return the keys in which two configurations' identities differ, with both values."""
    old, new = identity(before, exactly), identity(now, exactly)
    keys = sorted(set(old) | set(new))
    return {k: (old.get(k), new.get(k)) for k in keys if old.get(k) != new.get(k)}


def examine(folder: Path, config: Mapping) -> RunState:
    """Tell what is in a folder, for a run of this configuration."""
    finished = is_finished(folder)
    if not finished and not latest(folder):
        return RunState("begun" if any(folder.glob("*")) else "new")
    try:
        before = read_results(folder / FILE_NAME)["config"] if finished else read_config(folder)
    except (ValueError, OSError) as error:
        return RunState("changed", f"what lies there is no run that can be read: {error}")
    changed = differences(before, config)
    if changed:
        text = ", ".join(f"{key} {was} there, {now} here" for key, (was, now) in changed.items())
        return RunState("changed", text)
    return RunState("finished" if finished else "resumable")


def is_finished(folder: Path) -> bool:
    """Return whether a run in this folder has ended well."""
    return (folder / FILE_NAME).exists()


def has_results(folder: Path) -> bool:
    """Return whether the results.json in this folder is there, and a run's."""
    try:
        return bool(read_results(folder / FILE_NAME))
    except (ValueError, OSError):
        return False


def read_results(path: Path) -> Mapping:
    """Return a results.json, with at least an accuracy and a configuration that names a method.

    Raises:
        ValueError, OSError: it is empty, cut short, or another program's.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: it is no JSON ({error})") from error
    try:
        identity(record["config"])
        float(record["accuracy"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: it has no accuracy or no configuration of a run") from error
    return record


def is_outdated(folder: Path, training: Path | None) -> bool:
    """Return whether a finished test is from before the training that lies there now."""
    tested, trained = (path and path / FILE_NAME for path in (folder, training))
    return bool(trained and trained.exists()) and tested.stat().st_mtime < trained.stat().st_mtime


def latest(folder: Path) -> Path | None:
    """Return the checkpoint that a run in this folder resumes from, None without one.

    The engine knows which; upstream's, which resumes by itself, does not tell.
    """
    find = getattr(dassl.utils, "latest_checkpoint", lambda _: None)
    return find(folder / FOLDER)


def read_config(folder: Path) -> Mapping:
    """Return the configuration of the run that was begun in this folder.

    Raises:
        ValueError: it cannot be read.
    """
    path = folder / CONFIG
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        identity(config)
    except (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} was changed and cannot be read: {error}") from error
    return config


def clear(folder: Path) -> None:
    """Delete what a run left that ended before its first checkpoint; its log stays."""
    for name in LEFTOVERS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def set_aside(folder: Path) -> Path | None:
    """Move what is there to a name with its date, and return that."""
    if not folder.exists():
        return None
    date = time.strftime("%Y%m%d-%H%M%S", time.localtime(folder.stat().st_mtime))
    aside = folder.with_name(f"{folder.name}-{date}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}-{date}-{number}")
    shutil.move(folder, aside)
    return aside
