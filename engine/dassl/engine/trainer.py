"""Combine data, model and evaluator in a trainer, and loop over the batches."""

from __future__ import annotations

import copy
import datetime
import functools
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.evaluation import build_evaluator
from dassl.utils import AverageMeter, MetricMeter, check_availability, save_checkpoint
from dassl.utils.logger import LOGGER
from dassl.utils.tools import get_rng_state, set_rng_state

from .base import BEST, TrainerBase
from .splits import check_validation


class SimpleTrainer(TrainerBase):
    """Build loaders, model and evaluator from a config; train, save and test.

    A method overrides ``build_model`` and ``forward_backward``, often ``parse_batch_train``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.check_cfg(cfg)
        use_cuda = torch.cuda.is_available() and cfg.USE_CUDA
        self.device = torch.device("cuda" if use_cuda else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -math.inf
        self._seconds_before, self._clock_start = 0.0, time.monotonic()
        self._epoch_end: dict[str, dict[str, Any]] = {}

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a config that does not suit the method (a hook)."""

    def build_data_loader(self) -> None:
        """Set the loaders, ``num_classes``, ``lab2cname`` and ``dm``."""
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader  # None without validation data
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm
        if self.cfg.TEST.SPLIT == "val":
            check_validation(dm.dataset, self.cfg.DATASET.NAME, "TEST.SPLIT val")

    def build_model(self) -> None:
        """Set ``model``, its optimiser and scheduler, and call ``register_model``."""
        raise NotImplementedError(
            f"{type(self).__name__} has no model: override build_model(), which sets self.model "
            "and calls self.register_model(name, model, optim, sched)."
        )

    @property
    def _validates(self) -> bool:
        """Return whether each epoch is validated, to keep the best."""
        return self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST

    def check_final_model(self) -> None:
        """Refuse to train for the best epoch without validation images to choose it on.

        An evaluation needs none. (Not upstream's, which chooses on the test images.)
        """
        if self._validates:
            name = self.cfg.DATASET.NAME
            check_validation(self.dm.dataset, name, "TEST.FINAL_MODEL best_val")

    def train(self) -> None:
        """Train from ``start_epoch`` to ``max_epoch``, then test."""
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        """Resume if ``cfg.RESUME`` is set (upstream also did if OUTPUT_DIR held a run)."""
        self.check_final_model()
        if self.cfg.RESUME:
            self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME)
        self.init_writer(str(Path(self.output_dir) / "tensorboard"))
        self.time_start = time.time()
        self._clock_start = time.monotonic()

    @property
    def training_seconds(self) -> float:
        """Return the seconds of training so far, including those of the runs it resumed."""
        return self._seconds_before + time.monotonic() - self._clock_start

    def leave_out(self, seconds: float) -> None:
        """Exclude seconds in which the run waited for others (not upstream's)."""
        self._clock_start += seconds

    def make_checkpoint(self, name: str, epoch: int, val_result: float | None) -> dict[str, Any]:
        """Add the best result so far and the seconds of training."""
        return {
            **super().make_checkpoint(name, epoch, val_result),
            "best_result": self.best_result,
            "seconds": self.training_seconds,
        }

    def restore_checkpoint(self, name: str, checkpoint: Mapping[str, Any]) -> None:
        """Restore the best result too; without it the next epoch would replace a better model."""
        super().restore_checkpoint(name, checkpoint)
        self.best_result = checkpoint.get("best_result", -math.inf)
        self._seconds_before = checkpoint.get("seconds", 0.0)

    def after_train(self) -> None:
        LOGGER.info("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                LOGGER.info("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                LOGGER.info("Deploy the last-epoch model")
            self.test()
        elapsed = datetime.timedelta(seconds=round(time.time() - self.time_start))
        LOGGER.info(f"Elapsed: {elapsed}")
        self.close_writer()

    def after_epoch(self) -> None:
        """Keep the best model (FINAL_MODEL best_val); save every CHECKPOINT_FREQ and last."""
        done = self.epoch + 1
        if self._validates:
            result = self._validate()
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST)
        freq = self.cfg.TRAIN.CHECKPOINT_FREQ
        if done == self.max_epoch or (freq > 0 and done % freq == 0):
            self.save_model(self.epoch, self.output_dir)

    def _validate(self) -> float:
        """Return the result on validation data; a stop here saves the state after the last batch.

        That state was copied then, because a method may have changed its own in `after_epoch`.
        """
        try:
            return self.test(split="val")
        except KeyboardInterrupt:
            for name, checkpoint in self._epoch_end.items():
                save_checkpoint(checkpoint, Path(self.output_dir) / name)
            raise

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on ``split`` ("val" or "test", by default TEST.SPLIT).

        Returns:
            The evaluator's first result: with ``Classification`` the accuracy in percent.

        Raises:
            ValueError: there is no such split; upstream takes the test images for any.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = self.cfg.TEST.SPLIT if split is None else split
        check_availability(split, ("val", "test"), "split")
        loader = self.val_loader if split == "val" else self.test_loader
        if loader is None:
            check_validation(self.dm.dataset, self.cfg.DATASET.NAME, 'test("val")')
        LOGGER.info(f"Evaluate on the *{split}* set")
        for batch in tqdm(loader, disable=None):
            if self.stop_requested:
                raise KeyboardInterrupt
            input, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(input).cpu(), label.cpu())
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        """Return the scores (B, C) of images (B, 3, H, W)."""
        return self.model(input)

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images on the device, and labels where they are (upstream's move, too)."""
        return batch["img"].to(self.device, non_blocking=True), batch["label"]

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Return the rate of the first parameter group of the first model (of ``names``)."""
        name = self.get_model_names(names)[0]
        return self._optims[name].param_groups[0]["lr"]


class TrainerX(SimpleTrainer):
    """Train on labelled data."""

    def run_epoch(self) -> None:
        """Train for one pass over ``train_loader_x``."""
        for batch in self.batches():
            self.end_step(self.forward_backward(batch))

    def batches(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of an epoch, each to be followed by `end_step` (not upstream's).

        It sets ``batch_idx`` and ``num_batches``.
        """
        self.set_model_mode("train")
        self._losses = MetricMeter()
        self._batch_time, self._data_time = AverageMeter(), AverageMeter()
        self.num_batches = len(self.train_loader_x)
        self._step_start = time.time()
        for batch_idx, batch in self._numbered_batches():
            self.batch_idx = batch_idx
            self._data_time.update(time.time() - self._step_start)
            self._step_lr = None
            yield batch
            self._step_start = time.time()
        self._end_epoch()

    def end_step(self, summary: Mapping[str, float] | None) -> None:
        """Log the summary of a finished step and save if it is time to (not upstream's).

        TensorBoard gets a point with each line of the log, and with the last step of an epoch.
        Within an epoch the state is saved every TRAIN.CHECKPOINT_STEPS steps and on a requested
        stop. A run that resumes from there averages its log values from zero again.

        Raises:
            KeyboardInterrupt: a stop was requested; the state is saved.
        """
        self._batch_time.update(time.time() - self._step_start)
        self._losses.update(summary)
        done, print_freq = self.batch_idx + 1, self.cfg.TRAIN.PRINT_FREQ
        logged = done % print_freq == 0 or self.num_batches < print_freq
        step = self.epoch * self.num_batches + self.batch_idx
        rate = self.get_current_lr() if self._step_lr is None else self._step_lr  # of the step
        if logged:
            self._log_batch(rate)
        if logged or done == self.num_batches:
            for name, meter in self._losses.meters.items():
                self.write_scalar(f"train/{name}", meter.avg, step)
            self.write_scalar("train/lr", rate, step)
        self._save_within_epoch(step + 1)

    def _end_epoch(self) -> None:
        self.batches_done = self.num_batches
        if self._validates:
            names = self.get_model_names()
            state = {name: self.make_checkpoint(name, self.epoch - 1, None) for name in names}
            self._epoch_end = copy.deepcopy(state)
        self.batches_done = 0

    def _numbered_batches(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Return the epoch's batches; of a resumed epoch the remaining ones, in the same order."""
        loader, done = self.train_loader_x, self.batches_done
        if done:
            now = get_rng_state()
            set_rng_state(self.epoch_rng)
            restore = functools.partial(set_rng_state, now)
            loader.sampler.resume_after(done * loader.batch_size, then=restore)
        else:
            self.epoch_rng = get_rng_state()
        return enumerate(loader, start=done)

    def _save_within_epoch(self, step: int) -> None:
        """Save after ``step`` steps in total, if it is time to or a stop was requested."""
        self.batches_done = self.batch_idx + 1
        every = self.cfg.TRAIN.CHECKPOINT_STEPS
        if self.stop_requested or (every > 0 and step % every == 0):
            self.save_model(self.epoch - 1, self.output_dir)
        if self.stop_requested:
            raise KeyboardInterrupt

    def _log_batch(self, rate: float) -> None:
        batch_time, data_time = self._batch_time, self._data_time
        batches_left = (self.max_epoch - self.epoch) * self.num_batches - self.batch_idx - 1
        eta = datetime.timedelta(seconds=int(batch_time.avg * batches_left))
        LOGGER.info(
            f"epoch [{self.epoch + 1}/{self.max_epoch}] "
            f"batch [{self.batch_idx + 1}/{self.num_batches}] "
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) "
            f"data {data_time.val:.3f} ({data_time.avg:.3f}) "
            f"{self._losses} lr {rate:.4e} eta {eta}"
        )

    def parse_batch_train(
        self, batch: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return images, labels and domains, on the device."""
        return tuple(batch[key].to(self.device) for key in ("img", "label", "domain"))
