"""Train or evaluate one run: `python train.py --trainer MMLoP`.

The flags are the family's (CoOp, MaPLe, PromptSRC); KEY VALUE pairs after them set any
configuration key. Without a data set the demo world is used; without a method file the method's
base-to-new one.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.engine import build_trainer
from dassl.utils import set_random_seed, setup_logger
from yacs.config import CfgNode

from trainers.config import flatten, setup_cfg, value_of
from trainers.results import versions

# Keys in which a resumed run may differ from its beginning; the size follows from the backbone.
MAY_DIFFER = ("DATASET.ROOT", "DATALOADER.NUM_WORKERS", "INPUT.SIZE", "OUTPUT_DIR", "RESUME")

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
    parser.add_argument(
        "--load-epoch", type=int, help="epoch of these prompts; default: best, else last"
    )
    parser.add_argument("--no-train", action="store_true", help="build everything, then stop")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser.parse_args(argv)


def _check_output(cfg: CfgNode) -> None:
    """A run never goes on top of another by accident, nor goes on as another than it was."""
    folder = Path(cfg.OUTPUT_DIR)
    # A run that was refused leaves its log behind, which shall not stand in the next one's way.
    held = sorted(p.name for p in folder.glob("*") if not p.name.startswith("log.txt"))
    if held and not cfg.RESUME:
        raise ValueError(
            f"Output folder {folder} holds a run already ({', '.join(held)}): pass another "
            f"--output-dir, delete it, or pass --resume {folder} to go on with an interrupted run."
        )
    if cfg.RESUME:
        _check_resume(cfg, folder)


def _check_resume(cfg: CfgNode, folder: Path) -> None:
    if Path(cfg.RESUME).resolve() != folder.resolve():
        raise ValueError(f"A run goes on in its own folder: drop --output-dir {folder}.")
    if (folder / "results.json").exists():
        raise ValueError(f"The run in {folder} is finished: its figures are in results.json.")
    if not list(folder.glob("*/checkpoint")) or not (folder / "config.yaml").exists():
        raise ValueError(
            f"There is no checkpoint in {folder} to go on from; a run that may be interrupted "
            "writes them with TRAIN.CHECKPOINT_FREQ 1."
        )
    before = CfgNode.load_cfg((folder / "config.yaml").read_text())
    for key in flatten(cfg):
        if key in MAY_DIFFER:
            continue
        was, now = value_of(before, key), value_of(cfg, key)
        if _plain(was) != _plain(now):
            raise ValueError(f"The run in {folder} has {key} {was}, and this one {now}.")


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


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
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
    if not args.no_train:
        Path(cfg.OUTPUT_DIR, "config.yaml").write_text(cfg.dump())
    return trainer


def main(argv: Sequence[str] | None = None) -> None:
    """Run; a wrong input ends in one sentence and exit status 2, a diverged loss in status 3."""
    args = parse_args(argv)
    try:
        trainer = build(args, setup_cfg(args))
    except (ValueError, TypeError, OSError) as error:
        sys.exit(_stop(error, 2))
    try:
        if args.eval_only:
            trainer.test()
        elif not args.no_train:
            trainer.train()
    except OSError as error:  # an image that went missing, a full disk
        sys.exit(_stop(error, 2))
    except FloatingPointError as error:
        sys.exit(_stop(error, 3))


def _stop(error: Exception, status: int) -> int:
    print(f"train.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
