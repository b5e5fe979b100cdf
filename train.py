"""Train or evaluate one run: `python train.py --trainer MMLoP`.

The flags are the family's (CoOp, MaPLe, PromptSRC); KEY VALUE pairs after them set any
configuration key. Without a data set the demo world is used; without a method file the method's
base-to-new one.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from dassl.engine import build_trainer
from dassl.utils import set_random_seed, setup_logger
from yacs.config import CfgNode

from trainers.config import setup_cfg
from trainers.lifecycle import MACHINE, STOPPED, Stop, explain, quiet_threads
from trainers.locks import claim
from trainers.output import check_output, how_to_go_on, latest, prepare_output
from trainers.results import versions

logger = logging.getLogger("dassl")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # the command to go on with is made from the words as they came
    )
    parser.add_argument("--root", default="", help="folder that holds the data sets")
    parser.add_argument("--output-dir", default="", help="folder of this run; new or empty")
    parser.add_argument("--resume", default="", help="output folder of an interrupted run")
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the run in the output folder, start anew"
    )
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
    parser.add_argument("--debug", action="store_true", help="show errors with their traceback")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser.parse_args(argv)


def build(args: argparse.Namespace, cfg: CfgNode):
    """Seed, log, build data and model; what follows is the work itself."""
    check_output(cfg, args)
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
    if cfg.RESUME and (checkpoint := latest(Path(cfg.OUTPUT_DIR))):
        trainer.check_resumable(checkpoint)
    if not args.no_train:
        prepare_output(cfg, args.overwrite)
    return trainer


def main(argv: Sequence[str] | None = None) -> None:
    """Run; whatever goes wrong ends in one sentence and an exit status, see docs/failures.md."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parse_args(words)
    cfg, status = None, 0
    with Stop() as stop, quiet_threads():
        try:
            cfg = setup_cfg(args)
            _run(args, cfg, stop)
        except (Exception, KeyboardInterrupt) as error:
            if args.debug or (isinstance(error, KeyboardInterrupt) and stop.signum is None):
                raise
            status = _told(error, args, cfg, words, stop)
    # Not before the error is forgotten: its frames hold on to the loader's processes.
    if status:
        sys.exit(status)


def _run(args: argparse.Namespace, cfg: CfgNode, stop: Stop) -> None:
    folder = Path(cfg.OUTPUT_DIR)
    # A folder to be resumed that is not there is refused, not made.
    with claim(folder) if folder.is_dir() or not cfg.RESUME else nullcontext():
        trainer = build(args, cfg)
        stop.trainer = trainer
        if args.eval_only:
            trainer.test()
        elif not args.no_train:
            trainer.train()


def _told(error: BaseException, args, cfg: CfgNode | None, words: list[str], stop: Stop) -> int:
    """Print what happened and what to do; returns the exit status."""
    if isinstance(error, KeyboardInterrupt):
        status, text = STOPPED, f"Stopped by {signal.Signals(stop.signum).name}."
    else:
        status, text = explain(error, running=stop.trainer is not None)
    if cfg is not None and status in (STOPPED, MACHINE):
        text = f"{text.rstrip('.')}. {how_to_go_on(cfg, words, evaluates=args.eval_only)}"
    print(f"train.py: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
