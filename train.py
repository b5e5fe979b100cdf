"""Train or evaluate one run: `python train.py --trainer MMLoP`.

The flags are the family's (CoOp, MaPLe, PromptSRC); KEY VALUE pairs after them set any
configuration key. Without a data set the demo world is used; without a method file the method's
base-to-new one.
"""

import argparse
import difflib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from dassl.config import get_cfg_default
from dassl.engine import build_trainer
from dassl.utils import set_random_seed, setup_logger
from yacs.config import CfgNode

import datasets
import trainers
from trainers.results import versions

ROOT = Path(__file__).resolve().parent
CONFIGS = ROOT / "configs"
DEMO_DATASET = CONFIGS / "datasets" / "shapeworld.yaml"

logger = logging.getLogger("dassl")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default="", help="folder that holds the data sets")
    parser.add_argument("--output-dir", default="", help="folder of this run; new or empty")
    parser.add_argument("--resume", default="", help="output folder of an interrupted run")
    parser.add_argument("--seed", type=int, default=-1, help="fixes all randomness; -1: none fixed")
    parser.add_argument("--source-domains", nargs="+", help="domains to train on")
    parser.add_argument("--target-domains", nargs="+", help="domains to test on")
    parser.add_argument("--transforms", nargs="+", help="names of training transforms")
    parser.add_argument("--config-file", default="", help="YAML of the method")
    parser.add_argument("--dataset-config-file", default="", help="YAML of the data set")
    parser.add_argument("--trainer", default="", help="method: MMLoP, IVLP, ZeroshotCLIP")
    parser.add_argument("--backbone", default="", help='CLIP: "ViT-B/16", "demo", a file, ...')
    parser.add_argument("--head", default="", help="accepted for compatibility, not used by CLIP")
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    parser.add_argument("--model-dir", default="", help="output folder whose prompts to evaluate")
    parser.add_argument("--load-epoch", type=int, help="epoch of these prompts; default: the last")
    parser.add_argument("--no-train", action="store_true", help="build everything, then stop")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser.parse_args(argv)


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """Defaults, then the data set's file, the method's file, the flags, the KEY VALUE pairs.

    Raises:
        ValueError, FileNotFoundError: an unknown key, a value of another type, a missing file.
    """
    cfg = get_cfg_default()
    datasets.add_config(cfg)
    trainers.add_config(cfg)
    dataset_file, method_file = _files(args)
    for path in (dataset_file, method_file):
        if path:
            _merge_file(cfg, Path(path))
    _merge_flags(cfg, args)
    _merge_pairs(cfg, args.opts)
    _check(cfg)
    if cfg.OUTPUT_DIR in ("", get_cfg_default().OUTPUT_DIR):
        cfg.OUTPUT_DIR = cfg.RESUME or str(default_output(cfg, method_file))
    cfg.freeze()
    return cfg


def default_output(cfg: CfgNode, method_file: str) -> Path:
    """output/<data set>/<classes>/shots_<k>/<method>/<its file>/seed<s>, as the family lays it."""
    config = Path(method_file).stem if method_file else "defaults"
    shots = f"shots_{cfg.DATASET.NUM_SHOTS}" if cfg.DATASET.NUM_SHOTS > 0 else "all_images"
    parts = (cfg.DATASET.NAME, cfg.DATASET.SUBSAMPLE_CLASSES, shots, cfg.TRAINER.NAME, config)
    return Path("output", *parts, f"seed{cfg.SEED}")


def _files(args: argparse.Namespace) -> tuple[str, str]:
    """The data set's and the method's YAML; what is not given is the demo's, or base-to-new."""
    dataset_file, method_file = args.dataset_config_file, args.config_file
    demo = not dataset_file and "DATASET.NAME" not in args.opts
    if demo:
        dataset_file = str(DEMO_DATASET)
    if not method_file and args.trainer:
        default = CONFIGS / "trainers" / args.trainer / ("demo.yaml" if demo else "base2new.yaml")
        method_file = str(default) if default.exists() else ""
    return dataset_file, method_file


def _merge_file(cfg: CfgNode, path: Path) -> None:
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"Configuration file {path} is not a .yaml file.")
    if not path.is_file():
        raise FileNotFoundError(f"Configuration file {path} does not exist.")
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(
            f"Configuration file {path} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    _check_keys(cfg, flatten(content), str(path))
    _merge(cfg, lambda: cfg.merge_from_other_cfg(CfgNode(content)), str(path))


def _merge_pairs(cfg: CfgNode, pairs: Sequence[str]) -> None:
    if len(pairs) % 2:
        raise ValueError(f'Options come as KEY VALUE pairs; "{pairs[-1]}" has no value.')
    _check_keys(cfg, pairs[::2], "the command line")
    _merge(cfg, lambda: cfg.merge_from_list(list(pairs)), "the command line")


def _merge_flags(cfg: CfgNode, args: argparse.Namespace) -> None:
    """What the flags give; an absent flag changes nothing."""
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
    """The dotted keys of a nested dictionary."""
    keys = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        keys += flatten(value, f"{name}.") if isinstance(value, dict) else [name]
    return keys


def _check_keys(cfg: CfgNode, keys: Sequence[str], source: str) -> None:
    known = flatten(cfg)
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ValueError(f'Unknown key "{key}" in {source}; the nearest known is "{near}".')


def _merge(cfg: CfgNode, merge, source: str) -> None:
    """Merge; yacs says in a ValueError which types disagree, we add where."""
    try:
        merge()
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"In {source}: {error}") from error


def _check(cfg: CfgNode) -> None:
    """What can be known to be wrong before data or models are touched."""
    if not cfg.TRAINER.NAME:
        raise ValueError("No method is named: pass --trainer MMLoP, for example.")
    if not cfg.MODEL.BACKBONE.NAME:
        raise ValueError('No backbone is named: pass --backbone "ViT-B/16", for example.')


def _check_output(cfg: CfgNode) -> None:
    """A run never goes on top of another by accident."""
    folder = Path(cfg.OUTPUT_DIR)
    # A run that was refused leaves its log behind, which shall not stand in the next one's way.
    held = [p.name for p in folder.glob("*") if not p.name.startswith("log.txt")]
    if held and not cfg.RESUME:
        raise ValueError(
            f"Output folder {folder} holds a run already ({', '.join(sorted(held))}): pass another "
            f"--output-dir, delete it, or pass --resume {folder} to go on with the run in it."
        )


def build(args: argparse.Namespace, cfg: CfgNode):
    """Seed, log, build data and model; what follows is the work itself."""
    _check_output(cfg)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    setup_logger(cfg.OUTPUT_DIR)
    logger.info("Command: %s", " ".join(sys.argv))
    logger.info("%s", cfg)
    logger.info("Versions: %s", versions())
    if cfg.SEED >= 0:
        logger.info("Setting fixed seed: %d", cfg.SEED)
        set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    Path(cfg.OUTPUT_DIR, "config.yaml").write_text(trainer.cfg.dump())
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
    return trainer


def main(argv: Sequence[str] | None = None) -> None:
    """Run; a wrong input ends in one sentence and exit status 2, a diverged loss in status 3."""
    args = parse_args(argv)
    try:
        trainer = build(args, setup_cfg(args))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(_stop(error, 2))
    try:
        if args.eval_only:
            trainer.test()
        elif not args.no_train:
            trainer.train()
    except FloatingPointError as error:
        sys.exit(_stop(error, 3))


def _stop(error: Exception, status: int) -> int:
    print(f"train.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
