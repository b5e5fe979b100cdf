"""Train or evaluate one run: `python train.py --trainer MMLoP`.

The flags are the family's (CoOp, MaPLe, PromptSRC); KEY VALUE pairs after them set any
configuration key. Without a data set the demo world is used; without a method file the method's
base-to-new one.
"""

import argparse
import logging
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import lru_cache
from pathlib import Path

from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.utils import load_checkpoint, set_random_seed, setup_logger
from yacs.config import CfgNode

from datasets import check_folders
from experiment.config import defaults, file_of_another_method, setup_cfg
from experiment.exit_status import MACHINE, STOPPED, Stop, explain, quiet_threads
from experiment.lock import claim
from experiment.output_dir import check_output, how_to_resume, make_folder, prepare_output
from experiment.run_state import latest
from experiment.tracker import check_tracker, tracked
from prompting import share_backbones
from trainers.base import PromptTrainer
from trainers.results import versions

logger = logging.getLogger("dassl")
LISTS = ("source_domains", "target_domains", "transforms")  # flags that take several values
# Of a configuration, known or misspelt; "VTAB.yaml" is a file.
KEY = re.compile(r"[A-Z][A-Z0-9_]*\.(?!(.*\.)?yaml$)[A-Za-z0-9_.]+$")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags of the family and the KEY VALUE pairs behind them."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # the command to resume with is made from the words as they came
    )
    parser.add_argument("--root", default="", help="folder that holds the data sets")
    parser.add_argument("--output-dir", default="", help="folder of this run; new or empty")
    parser.add_argument("--resume", default="", help="output folder of an interrupted run")
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the run in the output folder, begin again"
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
    args = parser.parse_args(argv)
    for name in LISTS:
        values, pairs = split_pairs(getattr(args, name) or [])
        if not values and pairs:
            parser.error(f"--{name.replace('_', '-')} has no value before {pairs[0]}")
        setattr(args, name, values or None)
        args.opts = pairs + args.opts
    return args


def split_pairs(words: list[str]) -> tuple[list[str], list[str]]:
    """Split values from the KEY VALUE pairs after them, which argparse takes for more values."""
    keys = (index for index, word in enumerate(words) if word in defaults() or KEY.match(word))
    first = next(keys, len(words))
    return words[:first], words[first:]


@lru_cache(maxsize=4096)
def _config(words: tuple[str, ...]) -> CfgNode:
    cfg = setup_cfg(parse_args(words))
    cfg.freeze()
    return cfg


def expected(words: Sequence[str]) -> CfgNode:
    """Return the configuration that `python train.py` would have with these words behind it."""
    return _config(tuple(words))


def build(args: argparse.Namespace, cfg: CfgNode, words: Sequence[str] = ()) -> TrainerX:
    """Seed, log, build data and model; what follows is the work itself.

    Args:
        words: what was called, behind `python`, for the log and results.json.
    """
    check_output(cfg, args)
    check_tracker(cfg)
    check_prompts(cfg, args)
    make_folder(Path(cfg.OUTPUT_DIR))
    setup_logger(cfg.OUTPUT_DIR)
    logger.info("Command: %s", " ".join(words))
    if warning := file_of_another_method(args.config_file, cfg.TRAINER.NAME):
        logger.warning(warning)
    with share_backbones():
        check_folders(cfg)  # before a backbone is downloaded
        fit_input_size(cfg)
        cfg.freeze()
        logger.info("%s", cfg)
        logger.info("Versions: %s", versions())
        if cfg.SEED >= 0:
            logger.info("Setting fixed seed: %d", cfg.SEED)
            set_random_seed(cfg.SEED)
        trainer = build_trainer(cfg)
    trainer.command = list(words)
    if not (args.eval_only or args.no_train):
        check_training_images(trainer)
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
    elif hasattr(trainer, "check_final_model"):  # upstream's engine has no such check
        trainer.check_final_model()
    if cfg.RESUME and (checkpoint := latest(Path(cfg.OUTPUT_DIR))):
        trainer.check_resumable(checkpoint)
    if not args.no_train:
        prepare_output(cfg, args.overwrite)
    return trainer


def check_prompts(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Refuse to evaluate prompts that are missing or broken, before data or models are loaded."""
    method = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    # Upstream's and the family's trainers have folders of other names, or need none.
    if args.eval_only and issubclass(method, PromptTrainer) and method.requires_training:
        load_checkpoint(str(method.find_checkpoint(args.model_dir, args.load_epoch)))


def check_training_images(trainer: TrainerX) -> None:
    """Refuse to train where there are test images only."""
    dataset = trainer.dm.dataset
    # A method or a data set of upstream's kind has no such attribute.
    if getattr(trainer, "requires_training", True) and getattr(dataset, "test_only", False):
        cfg = trainer.cfg
        raise ValueError(
            f"{cfg.DATASET.NAME} ({dataset.split_source}) has no training images, and "
            f"{cfg.TRAINER.NAME} trains: add some, or evaluate trained prompts with --eval-only."
        )


def fit_input_size(cfg: CfgNode) -> None:
    """Set INPUT.SIZE to what the backbone takes: no other size works."""
    method = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if not issubclass(method, PromptTrainer):
        return
    backbone = method.load_backbone(cfg)
    size = (backbone.resolution, backbone.resolution)
    if tuple(cfg.INPUT.SIZE) != size:
        logger.info("INPUT.SIZE is set to %s, the size that %s takes", size, backbone.name)
        cfg.INPUT.SIZE = size


def main(argv: Sequence[str] | None = None) -> None:
    """Run; whatever goes wrong ends in one sentence and an exit status, see docs/failures.md."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parse_args(words)
    cfg, status = None, 0
    with Stop() as stop, quiet_threads():
        try:
            cfg = setup_cfg(args)
            _run(args, cfg, words, stop)
        except (Exception, KeyboardInterrupt) as error:
            if args.debug or (isinstance(error, KeyboardInterrupt) and stop.signum is None):
                raise
            status, text = _ending(error, stop)
            if cfg is not None and status in (STOPPED, MACHINE):
                text = f"{text.rstrip('.')}. {how_to_resume(cfg, words, args.eval_only)}"
            print(f"train.py: {text}", file=sys.stderr)
    # Not before the error is forgotten: its frames hold on to the loader's processes.
    if status:
        sys.exit(status)


def main_multi_seed(calls: Sequence[Sequence[str]]) -> None:
    """Train runs that differ in their seeds alone, stepped together; ends as `main` does.

    Args:
        calls: for each run what would follow `python train.py`.
    """
    status = 0
    with Stop() as stop, quiet_threads():
        try:
            _run_multi_seed(calls, stop)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) and stop.signum is None:
                raise
            status, text = _ending(error, stop)
            print(f"train.py: {text}", file=sys.stderr)
    if status:
        sys.exit(status)


def _run(args: argparse.Namespace, cfg: CfgNode, words: Sequence[str], stop: Stop) -> None:
    with _claimed(cfg):
        trainer = build(args, cfg, ["train.py", *words])
        with tracked(trainer):
            stop.trainer = trainer
            if args.eval_only:
                trainer.test()
            elif not args.no_train:
                trainer.train()


def _run_multi_seed(calls: Sequence[Sequence[str]], stop: Stop) -> None:
    # Imported here: upstream's engine has not what it takes.
    from experiment.multi_seed import Member, MultiSeed, check_multi_seed

    runs = [(words, args, setup_cfg(args)) for words in calls for args in [parse_args(words)]]
    check_multi_seed([cfg for _, _, cfg in runs])
    members = []
    with ExitStack() as held:
        for _, _, cfg in runs:
            held.enter_context(_claimed(cfg))
        with share_backbones():
            for words, args, cfg in runs:
                members.append(held.enter_context(closing(Member())))
                with members[-1].at_work():
                    members[-1].trainer = build(args, cfg, ["train.py", *words])
        for member in members:
            held.enter_context(tracked(member.trainer))
        stop.trainer = MultiSeed(members)
        stop.trainer.train()


def _claimed(cfg: CfgNode) -> AbstractContextManager:
    """Lock the output folder; one to be resumed that is not there is refused, not made."""
    folder = Path(cfg.OUTPUT_DIR)
    if cfg.RESUME and not folder.is_dir():
        return nullcontext()
    make_folder(folder)
    return claim(folder)


def _ending(error: BaseException, stop: Stop) -> tuple[int, str]:
    """Return the exit status, and what happened."""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED, f"Stopped by {signal.Signals(stop.signum).name}."
    return explain(error, running=stop.trainer is not None)
