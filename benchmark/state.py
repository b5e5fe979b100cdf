"""Tell what an output folder holds: nothing, a run begun or finished, or another run.

A run is finished when its results.json is there, which train.py writes last and at once. Two runs
are the same when everything agrees that their figures depend on; `fingerprint` is its hash.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import yaml
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

import datasets
import train
import trainers
from benchmark.plan import learns
from trainers.config import flatten, setup_cfg, value_of
from trainers.output import MAY_DIFFER

# Keys that no figure depends on. (With workers or without, other augmentations are drawn, but from
# the same distribution.)
WITHOUT_EFFECT = {*MAY_DIFFER, "DATALOADER.NUM_WORKERS"}
# Keys that the figures of a method without training do not depend on either.
OF_TRAINING = ("OPTIM.", "TRAIN.", "DATALOADER.TRAIN", "DATASET.NUM_SHOTS", "INPUT.TRANSFORMS")
# What train.py leaves in a folder before there is a checkpoint to resume from.
LEFTOVERS = ("config.yaml", "tensorboard", "prompt_learner")

ASIDE = re.compile(r"-\d{8}-\d{6}(-\d+)?$")  # ends the name of what was set aside


@dataclass(frozen=True)
class State:
    """`kind` is new, begun, resumable, finished or changed; `differing` says how it changed."""

    kind: str
    differing: str = ""


def identity(config: Mapping) -> dict:
    """Return what makes a run this run: flat keys to plain values, without those WITHOUT_EFFECT.

    Of TRAINER only the method's own node counts. Keys that a record lacks, because it is older,
    have their defaults.
    """
    name = config["TRAINER"]["NAME"]
    own = ("TRAINER.NAME", _own_keys(name))
    idle = () if learns(name) else OF_TRAINING
    found = {**_defaults(), **{key: value_of(config, key) for key in flatten(config)}}
    return {
        key: json.loads(json.dumps(value))  # tuples become lists, as in a file
        for key, value in sorted(found.items())
        if key not in WITHOUT_EFFECT
        and not key.startswith(idle)
        and (not key.startswith("TRAINER.") or key.startswith(own))
    }


def _own_keys(trainer: str) -> str:
    """Return the prefix of the method's own keys; of an unknown method all nodes count."""
    known = trainer in TRAINER_REGISTRY.registered_names()
    node = getattr(TRAINER_REGISTRY.get(trainer), "node", "") if known else ""
    return f"TRAINER.{node}." if node else "TRAINER."


@cache
def _defaults() -> dict:
    cfg = get_cfg_default()
    datasets.add_config(cfg)
    trainers.add_config(cfg)
    return {key: value_of(cfg, key) for key in flatten(cfg)}


def fingerprint(config: Mapping) -> str:
    """Return twelve hexadecimal digits for a configuration's identity."""
    return hashlib.sha256(json.dumps(identity(config)).encode()).hexdigest()[:12]


def differences(before: Mapping, now: Mapping) -> dict[str, tuple]:
    """Return the keys in which two configurations' identities differ, with both values."""
    old, new = identity(before), identity(now)
    keys = sorted(set(old) | set(new))
    return {k: (old.get(k), new.get(k)) for k in keys if old.get(k) != new.get(k)}


def expected(arguments: Sequence[str]) -> CfgNode:
    """Return the configuration that train.py would run with."""
    return _expected(tuple(arguments))


@lru_cache(maxsize=4096)
def _expected(arguments: tuple[str, ...]) -> CfgNode:
    return setup_cfg(train.parse_args(arguments))


def examine(folder: Path, config: Mapping) -> State:
    """Tell what is in a folder, for a run of this configuration."""
    finished = (folder / "results.json").exists()
    if not finished and not list(folder.glob("*/checkpoint")):
        return State("begun" if any(folder.glob("*")) else "new")
    if finished:
        before = json.loads((folder / "results.json").read_text())["config"]
    else:
        before = yaml.safe_load((folder / "config.yaml").read_text())
    changed = differences(before, config)
    if changed:
        text = ", ".join(f"{key} {was} there, {now} here" for key, (was, now) in changed.items())
        return State("changed", text)
    return State("finished" if finished else "resumable")


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
