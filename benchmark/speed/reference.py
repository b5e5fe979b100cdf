"""The reference in a speed comparison: PromptSRC's own code on upstream's Dassl.pytorch.

Neither checkout is changed. What it assumes of the machine is put in from outside, and told.
"""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

TRAINER = "PromptSRC"
MARKER = "trainers/promptsrc.py"  # what a checkout of it holds
ENGINE_MARKER = "dassl/engine/trainer.py"
CONFIG = "configs/trainers/PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx.yaml"
PRECISIONS = ("fp32", "fp16")  # its amp expects one loss where its model returns seven tensors
# Imported at every start, and not used by what is timed.
UNUSED = ("gdown", "pandas", "scipy", "sklearn", "wilds")


def settings(root: str, batch: int, precision: str, size: int, folder: str) -> dict[str, Any]:
    """What its train.py takes from its command line.

    Args:
        root: of the data set.
        batch: images in a training step.
        size: side of a picture, pixels.
        folder: for its output.
    """
    return {
        "root": root,
        "output_dir": folder,
        "seed": 1,
        "trainer": TRAINER,
        "backbone": "ViT-B/16",
        "config_file": CONFIG,
        "dataset_config_file": "configs/datasets/caltech101.yaml",
        **dict.fromkeys(("resume", "source_domains", "target_domains", "transforms", "head"), ""),
        "opts": [
            "DATALOADER.NUM_WORKERS", "0", "DATALOADER.TRAIN_X.BATCH_SIZE", str(batch),
            "INPUT.SIZE", f"({size}, {size})", "TRAINER.PROMPTSRC.PREC", precision,
        ],
    }  # fmt: skip


def prepare(plan: dict, clock: Any) -> tuple[Callable, dict]:
    """A function that builds the trainer, and what is told of it; see worker.py."""
    shims = [*lend_packages(plan["path"]), *mend_scheduler(), *fit_device(plan["precision"])]
    for package, folder in zip(("clip", "dassl"), plan["path"], strict=True):
        check_origin(package, folder)
    importlib.import_module("clip.clip")._download = lambda *_, **__: plan["weights"]
    shims.append("clip's download gives the weights of the comparison")
    train = runpy.run_path("train.py")
    module = importlib.import_module("trainers.promptsrc")
    every = len(module.IMAGENET_TEMPLATES)
    chosen = module.IMAGENET_TEMPLATES[: plan["templates"]]
    module.IMAGENET_TEMPLATES = Templates(chosen, clock)
    clock.wrap(module.PromptSRC, "build_model", "model")
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True  # as its train.py has it

    def make():
        cfg = train["setup_cfg"](argparse.Namespace(**plan["settings"]))
        train["set_random_seed"](cfg.SEED)
        return train["build_trainer"](cfg)

    return make, {"templates": len(chosen), "of_templates": every, "shims": shims}


def check_origin(package: str, folder: str) -> None:
    """ImportError unless a package comes from its checkout, and not from an installation."""
    found = Path(importlib.import_module(package).__file__)
    if Path(folder) not in found.parents:
        raise ImportError(f"{package} was imported from {found}, expected below {folder}.")


class Templates(list):
    """Times the body of the loop that runs through it."""

    def __init__(self, values: Sequence[str], clock: Any) -> None:
        super().__init__(values)
        self.clock = clock

    def __iter__(self) -> Iterator[str]:
        for value in super().__iter__():
            with self.clock.time("frozen"):
                yield value


class Lender(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for packages that are not installed, where a file in `folders` imports them.

    Other libraries ask for optional packages, and shall not find them.
    """

    def __init__(self, packages: Sequence[str], folders: Sequence[str]) -> None:
        self.packages, self.folders = tuple(packages), tuple(folders)

    def find_spec(self, name: str, path=None, target=None):
        if name.split(".")[0] not in self.packages or not _importer().startswith(self.folders):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__getattr__ = _empty


def _empty(name: str) -> Any:
    """Every name that is imported stands for a function that gives 0; the F1 score is one."""
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *_, **__: 0.0


def _importer() -> str:
    """The file whose import statement is being carried out."""
    frame = sys._getframe(2)
    while "importlib" in frame.f_code.co_filename:
        frame = frame.f_back
    return os.path.abspath(frame.f_code.co_filename)


def lend_packages(folders: Sequence[str]) -> list[str]:
    """Empty modules for what is missing of UNUSED."""
    missing = [name for name in UNUSED if importlib.util.find_spec(name) is None]
    sys.meta_path.append(Lender(missing, folders))
    return [f"empty modules for {', '.join(missing)}"] if missing else []


def mend_scheduler() -> list[str]:
    """Upstream's warm-up passes `verbose`, which PyTorch took away in 2.7."""
    start = LRScheduler.__init__
    if "verbose" in start.__code__.co_varnames:
        return []
    LRScheduler.__init__ = lambda self, optimizer, last_epoch=-1, verbose=False: start(
        self, optimizer, last_epoch
    )
    return ["LRScheduler takes `verbose`"]


def fit_device(precision: str) -> list[str]:
    """Its code calls .cuda() and .half() whatever the machine and the precision."""
    shims = []
    if not torch.cuda.is_available():
        torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_, **__: self
        shims.append(".cuda() stays on the CPU")
    if precision == "fp32":
        torch.Tensor.half = torch.nn.Module.half = lambda self: self
        shims.append(".half() keeps fp32")
    return shims


def check_checkout(folder: Path, marker: str, repository: str, flag: str) -> Path:
    """The folder, absolute; FileNotFoundError if it is no checkout of the repository."""
    folder = folder.expanduser().resolve()
    if not (folder / marker).is_file():
        raise FileNotFoundError(
            f"{flag} {folder} holds no {marker}: pass a checkout of {repository}."
        )
    return folder
