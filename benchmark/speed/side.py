"""Build one trainer in its own process, and measure it: one side of a comparison.

The packages of the two sides have the same names. So nothing of either is imported at the top of
this file, but only when the process knows its side.
"""

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import os
import resource
import runpy
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.benchmark import Timer, timer
from torch.utils.flop_counter import FlopCounterMode

IMAGES = 100  # in a batch of evaluation, as in every configuration of the family
GPU_STEPS = 3  # in which libraries choose their kernels, and a step becomes a graph
# What PromptSRC and Dassl import, and what is measured does not use.
UNUSED = ("gdown", "pandas", "scipy", "scipy.io", "sklearn", "sklearn.metrics", "wilds")


def begin(plan: Mapping[str, Any]) -> None:
    """Initialise the process as Side's arguments say; what it prints goes to a log."""
    global _side
    with open(f"{plan['scratch']}/log", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(plan["path"][0])
    sys.path[:0] = plan["path"]
    sys.dont_write_bytecode = True  # a checkout stays as it is
    torch.set_num_threads(plan["threads"])
    # Where memory runs out, Linux should end this process and no other.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    _side = Side(**plan)


def ask(do: str, arguments: Mapping[str, Any]) -> Any:
    """Call a method of this process's side.

    Raises:
        RuntimeError: whatever went wrong; the error itself may not survive the way back.
    """
    try:
        return getattr(_side, do)(**arguments)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise RuntimeError(f"{type(error).__name__}: {error}"[:300]) from None


@dataclass
class Side:
    """Build a trainer and measure it.

    Attributes:
        path: folders to import from; the first one holds train.py.
        words: what follows `python train.py`, without seed and output folder.
        threads, precision: of both sides.
        scratch: its own folder.
        weights: file that the reference reads instead of a download; none for our side.
    """

    path: tuple[str, ...]
    words: tuple[str, ...]
    threads: int
    precision: str
    scratch: str
    weights: str = ""

    def __post_init__(self) -> None:
        self.trainer, self.templates = None, 0
        self.seconds: dict[str, float] = {}
        self.returned: dict[str, Any] = {}

    def build(self, cache: str) -> dict[str, float]:
        """Build the trainer; return the seconds of all of it and of the frozen text features.

        Args:
            cache: folder of the disk cache of frozen text features.
        """
        os.environ["MMLOP_CACHE"] = cache
        self.trainer = self.together = None
        gc.collect()
        self.trainer = self._build(seed=1)
        left_out = (self.templates - 1) * self.seconds["frozen"]
        return {name: value + left_out for name, value in self.seconds.items()}

    def first_steps(self, batch: int) -> dict[str, int]:
        """Take the first steps; return the bytes held before them, and at most while they ran."""
        images = self._train_on(batch)
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # Linux: what is free goes back,
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # and the peak is what is held now
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        before = _peak_memory()
        for _ in range(GPU_STEPS if torch.cuda.is_available() else 1):
            self.trainer.forward_backward(images)
        return {"before": before, "peak": _peak_memory()}

    def flops(self, batch: int) -> dict[str, int]:
        """Count the FLOPs of a step; for ours also those that no code can do without."""
        images, trainer = self._train_on(batch), self.trainer
        with FlopCounterMode(display=False) as counter:
            if self.weights:
                trainer.forward_backward(images)
            else:  # what a CUDA graph replays is not counted
                trainer.compute(*trainer.parse_batch_train(images))
        found = {"computes": counter.get_total_flops()}
        if not self.weights:
            bound = importlib.import_module("benchmark.speed.bound")  # which imports our clip
            names, tokens = trainer.dm.dataset.classnames, trainer.options.N_CTX
            found["needed"] = bound.lower_bound(trainer.backbone.model, names, batch, tokens)
        return found

    def step(self, batch: int) -> float:
        """Time a training step."""
        images = self._train_on(batch)
        return self._time(lambda: self.trainer.forward_backward(images))

    def gradients(self, batch: int, seeds: int) -> float:
        """Time a step of one seed, or of several together, without the optimiser's part."""
        images = self.trainer.parse_batch_train(self._train_on(batch))
        if seeds == 1:
            return self._time(lambda: self.trainer.step(*images))
        if self.together is None:
            trainers = [self.trainer, *(self._build(seed) for seed in range(2, seeds + 1))]
            members = [SimpleNamespace(trainer=trainer) for trainer in trainers]
            self.together = importlib.import_module("experiment.multi_seed").MultiSeed(members)
        stacks = [torch.stack([part] * seeds) for part in images]
        return self._time(lambda: self.together.step(*stacks))

    def evaluate(self) -> float:
        """Time an evaluation of one batch."""
        self.trainer.val_loader = [self._images(IMAGES)]
        return self._time(lambda: self.trainer.test("val"))

    def _build(self, seed: int) -> Any:
        """Return the trainer that the side's own train.py builds."""
        if not self.templates:
            self._prepare()
        self.seconds.clear()
        output = tempfile.mkdtemp(dir=self.scratch)
        sys.argv = ["train.py", "--seed", str(seed), "--output-dir", output, *self.words]
        runpy.run_path("train.py", run_name="__main__")
        return self.returned.pop("built")

    def _prepare(self) -> None:
        """Have the seconds of whole trainers and of frozen text features taken."""
        if self.weights:
            self.templates = prepare_reference(self)
            self._clock(sys.modules["clip.model"].CLIP, "encode_text", "frozen")
        else:
            self.templates = 1  # all of them at once
            model = importlib.import_module("prompting.model")
            self._clock(model, "frozen_text_features", "frozen")
        self._clock(importlib.import_module("dassl.engine"), "build_trainer", "built")

    def _clock(self, owner: Any, function: str, name: str) -> None:
        """Add up the seconds of a function from now on, and keep what it returns."""
        inner = getattr(owner, function)

        def timed(*args, **kwargs):
            begun = timer()
            self.returned[name] = inner(*args, **kwargs)
            self.seconds[name] = self.seconds.get(name, 0.0) + timer() - begun
            return self.returned[name]

        setattr(owner, function, timed)

    def _time(self, function: Callable[[], Any]) -> float:
        timed = Timer("function()", globals={"function": function}, num_threads=self.threads)
        return timed.blocked_autorange().median

    def _train_on(self, batch: int) -> dict:
        self.trainer.set_model_mode("train")
        self.trainer.epoch, self.trainer.batch_idx = 0, 0
        self.trainer.num_batches = sys.maxsize  # so that no epoch ends
        return self._images(batch)

    def _images(self, count: int) -> dict:
        generator = torch.Generator().manual_seed(count)
        images = torch.randn(count, 3, *self.trainer.cfg.INPUT.SIZE, generator=generator)
        labels = torch.arange(count) % self.trainer.num_classes
        device = self.trainer.device
        return {"img": images.to(device), "label": labels.to(device)}


def _peak_memory() -> int:
    """Return the most bytes that PyTorch has held on a GPU, or the process without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def prepare_reference(side: Side) -> int:
    """Put in from outside what PromptSRC and Dassl assume of the machine; no file is changed.

    Only the first template makes the frozen text features; returns how many it stands for.
    """
    plain = LRScheduler.__init__
    if "verbose" not in plain.__code__.co_varnames:
        # Upstream's warm-up passes `verbose`, which PyTorch took away in 2.7.
        LRScheduler.__init__ = lambda self, optimizer, last_epoch=-1, verbose=False: plain(
            self, optimizer, last_epoch
        )
    if not torch.cuda.is_available():
        torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_, **__: self
    if side.precision == "fp32":
        torch.Tensor.half = torch.nn.Module.half = lambda self: self
    with _stand_ins():
        importlib.import_module("train")  # and with it whatever else it imports
    for package, folder in zip(("clip", "dassl"), side.path, strict=True):
        found = Path(sys.modules[package].__file__)
        if Path(folder) not in found.parents:
            raise ImportError(f"{package} was imported from {found}, expected below {folder}")
    module = sys.modules["trainers.promptsrc"]
    sys.modules["clip.clip"]._download = lambda *_, **__: side.weights
    templates, module.IMAGENET_TEMPLATES = module.IMAGENET_TEMPLATES, module.IMAGENET_TEMPLATES[:1]
    return len(templates)


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Within it, mocks stand for packages of UNUSED that are not installed.

    Other libraries look for optional packages, and must not find these: torchvision is imported
    before, and what is imported later comes after they are gone.
    """
    importlib.import_module("torchvision")
    missing = [name for name in UNUSED if not importlib.util.find_spec(name.split(".")[0])]
    # The F1 score is printed as a number.
    sys.modules.update({name: MagicMock(**{"f1_score.return_value": 0.0}) for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
