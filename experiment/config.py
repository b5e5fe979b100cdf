"""The configuration of a run: defaults, files, flags, KEY VALUE pairs; what is wrong in them."""

import argparse
import ast
import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

import yaml
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from yacs.config import CfgNode

import datasets
import trainers
from experiment.config_checks import check_method, check_values, choices, nearest_key
from experiment.unread_keys import check_never, check_read, of_another_method
from prompting import open_clip_models
from prompting.files import read_text
from trainers import requires_training

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DEMO_DATASET = CONFIGS / "datasets" / "shapeworld.yaml"
# What stands for a Python value is parsed as one, and parsing fails in many ways.
UNREADABLE = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """Merge defaults, the data set's file, the method's file, the flags, the KEY VALUE pairs.

    The result is not frozen yet: INPUT.SIZE follows from the backbone.

    Raises:
        ValueError, FileNotFoundError: an unknown key, a value of another type, a missing file.
    """
    cfg = _default_config()
    check_method(cfg, args.trainer)
    dataset_file, method_file = _files(args)
    paths = [Path(path) for path in (dataset_file, method_file) if path]
    in_files = {path: _merge_file(cfg, path, args.trainer) for path in paths}
    as_in_files = cfg.clone()
    _merge_flags(cfg, args)
    _merge_pairs(cfg, args.opts)
    _check(cfg)
    _check_flags(args, cfg)
    as_in_files.TRAINER.NAME, as_in_files.DATASET.NAME = cfg.TRAINER.NAME, cfg.DATASET.NAME
    check_never(flatten(cfg), defaults())
    for path, keys in in_files.items():
        check_read(flatten(as_in_files), defaults(), keys, f"In {path}: ")
    check_read(flatten(cfg), defaults(), args.opts[::2])
    _drop_other_methods(cfg)
    _fit_images(cfg, args.opts[::2])
    if cfg.OUTPUT_DIR in ("", get_cfg_default().OUTPUT_DIR):
        cfg.OUTPUT_DIR = cfg.RESUME or str(default_output(cfg, method_file))
    return cfg


def _fit_images(cfg: CfgNode, asked: Collection[str]) -> None:
    """Set how a model of open_clip was shown images, except for keys that were asked for."""
    name = cfg.MODEL.BACKBONE.NAME
    if not name.startswith(open_clip_models.PREFIX):
        return
    images = open_clip_models.find(name).images
    if images:
        found = {
            "PIXEL_MEAN": list(images.mean),
            "PIXEL_STD": list(images.std),
            "INTERPOLATION": images.interpolation,
            "RESIZE_MODE": images.resize_mode,
        }
        cfg.INPUT.update({key: own for key, own in found.items() if f"INPUT.{key}" not in asked})


def _default_config() -> CfgNode:
    cfg = get_cfg_default()
    datasets.add_config(cfg)
    trainers.add_config(cfg)
    # Dassl's are those of a ResNet of ImageNet; a frozen CLIP takes images as it was trained on.
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.PIXEL_MEAN = [0.48145466, 0.4578275, 0.40821073]
    cfg.INPUT.PIXEL_STD = [0.26862954, 0.26130258, 0.27577711]
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    return cfg


def _drop_other_methods(cfg: CfgNode) -> None:
    """Record nothing that the run does not read."""
    method = cfg.TRAINER.NAME
    for name in [name for name in cfg.TRAINER if isinstance(cfg.TRAINER[name], CfgNode)]:
        if of_another_method(f"TRAINER.{name}.", method):
            del cfg.TRAINER[name]
    if of_another_method("LOSS.", method):
        del cfg["LOSS"]


@cache
def defaults() -> dict:
    """Return the default of each key, by its dotted name."""
    return flatten(_default_config())


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


def file_of_another_method(file: str, trainer: str) -> str:
    """Return a warning where a method is trained with another method's YAML, else nothing.

    What says so is the folder of the file, as in configs/trainers; CoOp's scripts give its files
    to zero-shot CLIP, which reads nothing of how others train.
    """
    owner = Path(file).absolute().parent.name
    if owner == trainer or owner not in TRAINER_REGISTRY.registered_names():
        return ""
    if not requires_training(trainer):
        return ""
    own = f"configs/trainers/{trainer}"
    return f"The settings of {owner} ({file}) are used for {trainer}: its own are in {own}"


def _merge_file(cfg: CfgNode, path: Path, trainer: str) -> list[str]:
    """Merge a YAML file; return its keys."""
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
    values = flatten(content)
    _check_keys(cfg, values, str(path), trainer)
    _merge(cfg, values.items(), str(path))
    return list(values)


@lru_cache(maxsize=256)
def _read_yaml(path: Path, changed: int):
    """Read a file once, as long as it does not change; nobody changes what is returned."""
    return yaml.safe_load(read_text(path))


def _merge_pairs(cfg: CfgNode, pairs: Sequence[str]) -> None:
    flags = [word for word in pairs if word.startswith("--")]
    if flags:
        raise ValueError(f"Flags come before the KEY VALUE pairs: move {flags[0]} forward.")
    if len(pairs) % 2:
        raise ValueError(f'Options come as KEY VALUE pairs; "{pairs[-1]}" has no value.')
    _check_keys(cfg, pairs[::2], "the command line", cfg.TRAINER.NAME)
    values = [_unquoted(value) for value in pairs[1::2]]
    _merge(cfg, zip(pairs[::2], values, strict=True), "the command line")


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


def flatten(tree: Mapping, prefix: str = "") -> dict:
    """Return the values of nested dictionaries by their dotted keys."""
    found = {}
    for key, value in tree.items():
        deeper = isinstance(value, dict) and value
        found |= flatten(value, f"{prefix}{key}.") if deeper else {f"{prefix}{key}": value}
    return found


def value_of(tree, key: str):
    """Return the value under a dotted key of nested dictionaries."""
    for part in key.split("."):
        tree = tree[part]
    return tree


def _unquoted(value: str) -> str:
    """Return a quoted value without its quotes, as yacs reads it."""
    with contextlib.suppress(*UNREADABLE):
        found = ast.literal_eval(value)
        return found if isinstance(found, str) else value
    return value


def _set(cfg: CfgNode, key: str, value: object) -> bool:
    """Set a key to a value of its default's type; return whether it has one.

    What a string looks like does not matter where a string is expected.
    """
    default = value_of(cfg, key)
    if isinstance(default, str):
        if isinstance(value, bool) and key.endswith("CTX_INIT"):
            value = str(value)  # KgCoOp's files have truth values there
        section, _, name = key.rpartition(".")
        if isinstance(value, str):
            (value_of(cfg, section) if section else cfg)[name] = value
        return isinstance(value, str)
    if isinstance(default, float) and not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError):  # yacs takes neither 25 nor "1e-5"
            value = float(value)
    try:
        cfg.merge_from_list([key, value])
    except UNREADABLE:
        return False
    return value_of(cfg, key) is not None  # yacs takes None for anything


def _check_keys(cfg: CfgNode, keys: Iterable[str], source: str, trainer: str) -> None:
    known = flatten(cfg)
    for key in keys:
        if key not in known:
            own = [name for name in known if not of_another_method(name, trainer)]
            near = nearest_key(key, own)
            hint = f'; the nearest known is "{near}"' if near else ""
            raise ValueError(f'Unknown key "{key}" in {source}{hint}.')


def _merge(cfg: CfgNode, pairs: Iterable[tuple[str, object]], source: str) -> None:
    for key, value in pairs:
        default = value_of(cfg, key)
        if not _set(cfg, key, value):
            quote = " (in YAML, a string in quotes)" if isinstance(default, str) else ""
            raise ValueError(
                f"In {source}: Type mismatch: {key} takes a value of type "
                f"{type(default).__name__}{quote}, such as {default!r}, got {value!r}."
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
            raise ValueError(f'Unknown {kind} "{name}": {choices(name, known)}.')
    check_method(cfg, cfg.TRAINER.NAME)
    if not cfg.MODEL.BACKBONE.NAME:
        raise ValueError(
            'No backbone is named: pass --backbone, "ViT-B/16" or "demo" for example, or a '
            "--config-file (without a data set that is configs/trainers/"
            f"{cfg.TRAINER.NAME}/demo.yaml, where it exists)."
        )
    check_values(flatten(cfg))


def _check_flags(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Refuse flags that would be passed over."""
    if not args.eval_only and (args.model_dir or args.load_epoch is not None):
        raise ValueError(
            "--model-dir and --load-epoch say what --eval-only evaluates: add --eval-only, or "
            "initialise a training with MODEL.INIT_WEIGHTS."
        )
    if args.eval_only and (args.no_train or cfg.TEST.NO_TEST):
        other = "--no-train" if args.no_train else "TEST.NO_TEST True"
        raise ValueError(f"--eval-only evaluates, and {other} forbids it: drop one of them.")
