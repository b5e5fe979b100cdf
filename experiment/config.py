"""The configuration of a run: defaults, files, flags, KEY VALUE pairs; what is wrong in them."""

import argparse
import contextlib
import difflib
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path

import yaml
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

import datasets
import trainers
from experiment.config_checks import check_values

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DEMO_DATASET = CONFIGS / "datasets" / "shapeworld.yaml"


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """Merge defaults, the data set's file, the method's file, the flags, the KEY VALUE pairs.

    The result is not frozen yet: INPUT.SIZE follows from the backbone.

    Raises:
        ValueError, FileNotFoundError: an unknown key, a value of another type, a missing file.
    """
    cfg = _default_config()
    dataset_file, method_file = _files(args)
    for path in (dataset_file, method_file):
        if path:
            _merge_file(cfg, Path(path))
    _merge_flags(cfg, args)
    _merge_pairs(cfg, args.opts)
    _check(cfg)
    if cfg.OUTPUT_DIR in ("", get_cfg_default().OUTPUT_DIR):
        cfg.OUTPUT_DIR = cfg.RESUME or str(default_output(cfg, method_file))
    return cfg


def _default_config() -> CfgNode:
    cfg = get_cfg_default()
    datasets.add_config(cfg)
    trainers.add_config(cfg)
    return cfg


@cache
def defaults() -> dict:
    """Return the default of each key, by its dotted name."""
    cfg = _default_config()
    return {key: value_of(cfg, key) for key in flatten(cfg)}


def default_output(cfg: CfgNode, method_file: str) -> Path:
    """Return the family's layout: output/<data set>/<classes>/shots_<k>/<method>/<file>/seed<s>."""
    config = Path(method_file).stem if method_file else "defaults"
    shots = f"shots_{cfg.DATASET.NUM_SHOTS}" if cfg.DATASET.NUM_SHOTS > 0 else "all_images"
    parts = (cfg.DATASET.NAME, cfg.DATASET.SUBSAMPLE_CLASSES, shots, cfg.TRAINER.NAME, config)
    return Path("output", *parts, f"seed{cfg.SEED}")


def _files(args: argparse.Namespace) -> tuple[str, str]:
    """Return the data set's and the method's YAML; by default the demo's, or base-to-new.

    A method that is for few shots alone has none for base-to-new, and those for few shots count.
    """
    dataset_file, method_file = args.dataset_config_file, args.config_file
    demo = not dataset_file and "DATASET.NAME" not in args.opts
    if demo and args.root:
        raise ValueError("--root is given but no data set: pass --dataset-config-file.")
    if demo:
        dataset_file = str(DEMO_DATASET)
    if not method_file and args.trainer:
        folder, names = CONFIGS / "trainers" / args.trainer, ("base2new", "few_shot")
        files = [folder / f"{name}.yaml" for name in (("demo",) if demo else names)]
        method_file = next((str(file) for file in files if file.exists()), "")
    return dataset_file, method_file


def _merge_file(cfg: CfgNode, path: Path) -> None:
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"Configuration file {path} is not a .yaml file.")
    if not path.is_file():
        raise FileNotFoundError(f"Configuration file {path} does not exist.")
    try:
        content = _read_yaml(path, path.stat().st_mtime_ns) or {}
    except yaml.YAMLError as error:
        raise ValueError(
            f"Configuration file {path} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"Configuration file {path} holds no keys: expected SECTION: KEY: value.")
    keys = flatten(content)
    _check_keys(cfg, keys, str(path))
    _merge(cfg, [(key, value_of(content, key)) for key in keys], str(path))


@lru_cache(maxsize=256)
def _read_yaml(path: Path, changed: int):
    """Read a file once, as long as it does not change; nobody changes what is returned."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _merge_pairs(cfg: CfgNode, pairs: Sequence[str]) -> None:
    flags = [word for word in pairs if word.startswith("--")]
    if flags:
        raise ValueError(f"Flags come before the KEY VALUE pairs: move {flags[0]} forward.")
    if len(pairs) % 2:
        raise ValueError(f'Options come as KEY VALUE pairs; "{pairs[-1]}" has no value.')
    _check_keys(cfg, pairs[::2], "the command line")
    _merge(cfg, zip(pairs[::2], pairs[1::2], strict=True), "the command line")


def _merge_flags(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Merge what the flags give; an absent flag changes nothing."""
    cfg.DATASET.ROOT = args.root or cfg.DATASET.ROOT
    cfg.OUTPUT_DIR = args.output_dir or cfg.OUTPUT_DIR
    cfg.RESUME = args.resume or cfg.RESUME
    cfg.SEED = args.seed if args.seed >= 0 else cfg.SEED
    cfg.DATASET.SOURCE_DOMAINS = tuple(args.source_domains or cfg.DATASET.SOURCE_DOMAINS)
    cfg.DATASET.TARGET_DOMAINS = tuple(args.target_domains or cfg.DATASET.TARGET_DOMAINS)
    cfg.INPUT.TRANSFORMS = tuple(args.transforms or cfg.INPUT.TRANSFORMS)
    cfg.TRAINER.NAME = args.trainer or cfg.TRAINER.NAME
    cfg.MODEL.BACKBONE.NAME = args.backbone or cfg.MODEL.BACKBONE.NAME
    cfg.MODEL.HEAD.NAME = args.head or cfg.MODEL.HEAD.NAME


def flatten(tree: dict, prefix: str = "") -> list[str]:
    """Return the dotted keys of a nested dictionary."""
    keys = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        keys += flatten(value, f"{name}.") if isinstance(value, dict) and value else [name]
    return keys


def value_of(tree, key: str):
    """Return the value under a dotted key of nested dictionaries."""
    for part in key.split("."):
        tree = tree[part]
    return tree


def _like(cfg: CfgNode, key: str, value):
    """Return a value in its key's type where yacs refuses it: 25 for 25.0, True for "True"."""
    if isinstance(value_of(cfg, key), str) and str(value) in ("True", "False"):
        return repr(str(value))  # quoted, or yacs reads KgCoOp's files as truth values
    if isinstance(value_of(cfg, key), float):
        with contextlib.suppress(TypeError, ValueError):
            return float(value)
    return value


def _check_keys(cfg: CfgNode, keys: Sequence[str], source: str) -> None:
    known = flatten(cfg)
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ValueError(f'Unknown key "{key}" in {source}; the nearest known is "{near}".')


def _merge(cfg: CfgNode, pairs: Iterable[tuple[str, object]], source: str) -> None:
    for key, value in pairs:
        default = value_of(cfg, key)
        try:
            cfg.merge_from_list([key, _like(cfg, key, value)])
        # What stands for a Python value is parsed as one, and parsing fails in many ways.
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            fits = False
        else:
            fits = value_of(cfg, key) is not None  # yacs takes None for anything
        if not fits:
            kind = type(default).__name__
            raise ValueError(
                f"In {source}: Type mismatch: {key} takes a value of type {kind}, such as "
                f"{default!r}, got {value!r}."
            )


def _check(cfg: CfgNode) -> None:
    """Refuse what is known to be wrong before data or models are touched."""
    if not cfg.TRAINER.NAME:
        raise ValueError("No method is named: pass --trainer MMLoP, for example.")
    for kind, name, registry in (
        ("method", cfg.TRAINER.NAME, TRAINER_REGISTRY),
        ("data set", cfg.DATASET.NAME, DATASET_REGISTRY),
    ):
        known = registry.registered_names()
        if name not in known:
            raise ValueError(f'Unknown {kind} "{name}": choose {", ".join(sorted(known))}.')
    for key, value, allowed in (
        ("TEST.SPLIT", cfg.TEST.SPLIT, ("test", "val")),
        ("TEST.FINAL_MODEL", cfg.TEST.FINAL_MODEL, ("last_step", "best_val")),
    ):
        if value not in allowed:
            raise ValueError(f'{key} is "{value}": choose {" or ".join(allowed)}.')
    if not cfg.MODEL.BACKBONE.NAME:
        raise ValueError('No backbone is named: pass --backbone "ViT-B/16", for example.')
    check_values({key: value_of(cfg, key) for key in flatten(cfg)})
