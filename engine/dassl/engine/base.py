"""Hold named models with their optimisers and schedulers, and run the bare epoch loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.utils import (
    Registry,
    check_availability,
    latest_checkpoint,
    load_checkpoint,
    resume_from_checkpoint,
    save_checkpoint,
    tolist_if_not,
)
from dassl.utils.checkpoint import BEST
from dassl.utils.logger import LOGGER
from dassl.utils.tools import get_rng_state

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> Any:
    """Build the trainer ``cfg.TRAINER.NAME``."""
    return TRAINER_REGISTRY.build(cfg.TRAINER.NAME, cfg)


class TrainerBase:
    """Hold registered models and run ``before_train``, the epochs and ``after_train``.

    An epoch is ``before_epoch``, ``run_epoch``, ``after_epoch``.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, Any] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer = None
        self.batches_done = 0  # in an epoch that is not finished
        self.epoch_rng: dict[str, Any] | None = None  # random state at the start of that epoch
        self.stop_requested = False
        self._step_lr: float | None = None  # of the step after which `update_lr` was called

    def request_stop(self) -> None:
        """Request a stop: the step is finished and saved, then `KeyboardInterrupt` is raised.

        An evaluation, which changes nothing, ends at its next batch. It may be called from a
        signal handler. (Not upstream's.)
        """
        self.stop_requested = True

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: Any = None,
        sched: Any = None,
    ) -> None:
        """Add a model to train, save and load; its files are in the folder ``name``."""
        if "_models" not in self.__dict__:
            raise AttributeError("register_model() came before super().__init__(): swap them.")
        if name in self._models:
            raise ValueError(f"A model named {name!r} is registered already: use another name.")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """Return all names, or ``names`` as a list; a name that is not registered is refused."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        for name in names:
            check_availability(name, self._models, "model")
        return names

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: float | None = None,
        model_name: str = "",
    ) -> None:
        """Write a checkpoint of every model to ``directory/<name>`` after epoch ``epoch``.

        Raises:
            FloatingPointError: weights are infinite or NaN; earlier checkpoints stay.
        """
        for name in self.get_model_names():
            checkpoint = self.make_checkpoint(name, epoch, val_result)
            _check_finite(name, checkpoint["state_dict"], epoch)
            save_checkpoint(
                checkpoint,
                Path(directory) / name,
                is_best=is_best,
                model_name=model_name,
            )

    def make_checkpoint(self, name: str, epoch: int, val_result: float | None) -> dict[str, Any]:
        """Return what ``save_model`` writes for a model; a trainer may add plain values.

        In addition to upstream's keys it holds ``rng``, so that a resumed run draws the same
        numbers as an uninterrupted one, and within an epoch ``batches`` (the number done) and
        ``epoch_rng`` (the state from which its order was drawn). (Not upstream's.)
        """
        optim, sched = self._optims[name], self._scheds[name]
        return {
            "state_dict": self._models[name].state_dict(),
            "epoch": epoch + 1,
            "optimizer": None if optim is None else optim.state_dict(),
            "scheduler": None if sched is None else sched.state_dict(),
            "val_result": val_result,
            "rng": get_rng_state(),
            "batches": self.batches_done,
            "epoch_rng": self.epoch_rng if self.batches_done else None,
        }

    def restore_checkpoint(self, name: str, checkpoint: Mapping[str, Any]) -> None:
        """Restore what `make_checkpoint` added for the model ``name`` (a hook, not upstream's).

        It is called on resuming, after weights, optimiser, scheduler and random state are loaded.
        """
        self.batches_done = checkpoint.get("batches", 0)
        self.epoch_rng = checkpoint.get("epoch_rng")

    def resume_model_if_exist(self, directory: str) -> int:
        """Load the latest checkpoint of every model; return the epoch to resume with, or 0."""
        names = self.get_model_names()
        paths = {name: latest_checkpoint(Path(directory) / name) for name in names}
        if None in paths.values():
            LOGGER.info("No checkpoint found, train from scratch")
            return 0
        LOGGER.info(f"Found checkpoint at {directory} (will resume training)")
        epochs = {
            name: resume_from_checkpoint(
                Path(directory) / name, self._models[name], self._optims[name], self._scheds[name]
            )
            for name in names
        }
        if len(set(epochs.values())) > 1:
            raise ValueError(
                f"The checkpoints in {directory} are of different epochs, {epochs}: write the "
                "same file name into the 'checkpoint' file of each."
            )
        for name, path in paths.items():
            self.restore_checkpoint(name, load_checkpoint(path))
        return next(iter(epochs.values()), 0)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of every model from ``directory/<name>``; keys must match exactly.

        Args:
            directory: folder of an earlier run; if empty, nothing is loaded.
            epoch: the checkpoint's epoch; None for the best or, without a best, the latest one.
        """
        if not directory:
            LOGGER.info(
                "Note that load_model() is skipped as no pretrained "
                "model is given (ignore this if it's done on purpose)"
            )
            return
        for name in self.get_model_names():
            path = self._model_path(Path(directory) / name, epoch)
            checkpoint = load_checkpoint(path)
            result = checkpoint.get("val_result")
            result = "None" if result is None else f"{result:.1f}"
            LOGGER.info(f"Load {path} to {name} (epoch={checkpoint['epoch']}, val_result={result})")
            try:
                self._models[name].load_state_dict(checkpoint["state_dict"])
            except RuntimeError as error:
                raise RuntimeError(
                    f"{path} does not fit the model {name!r}: use the config, backbone and "
                    f"classes it was trained with. {error}"
                ) from error

    @staticmethod
    def _model_path(folder: Path, epoch: int | None) -> Path:
        if epoch is not None:
            return folder / f"model.pth.tar-{epoch}"
        latest = latest_checkpoint(folder)
        if not (folder / BEST).is_file() and latest is not None:
            return latest
        return folder / BEST

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Set models to mode ``train`` or ``test`` (also called ``eval``)."""
        check_availability(mode, ("train", "test", "eval"), "mode")
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Step the schedulers; trainers call this after the last batch of an epoch."""
        first = next(iter(self._optims.values()), None)
        if first is not None and self._step_lr is None:
            self._step_lr = first.param_groups[0]["lr"]
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        """Raise ``FloatingPointError`` if the loss is infinite or NaN."""
        if not torch.isfinite(loss).all():
            epoch, batch = getattr(self, "epoch", 0), getattr(self, "batch_idx", 0)
            raise FloatingPointError(
                f"Loss is infinite or NaN ({loss.detach().flatten()[:4].tolist()}) at epoch "
                f"{epoch + 1}, batch {batch + 1}: lower OPTIM.LR or train the prompts in fp32."
            )

    def init_writer(self, log_dir: str) -> None:
        """Open a TensorBoard writer, unless one is open."""
        if self._writer is None:
            # Imported here because TensorBoard takes seconds to import, which a test run can save.
            from torch.utils.tensorboard import SummaryWriter

            LOGGER.info(f"Initialize tensorboard (log_dir={log_dir})")
            self._writer = SummaryWriter(log_dir=str(log_dir))

    def close_writer(self) -> None:
        """Flush and close the writer, if one is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write a value to TensorBoard, if a writer is open."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Run the epochs from ``start_epoch`` (``before_train`` may move it) to ``max_epoch``."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        self.before_train()
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

    def before_train(self) -> None:
        """Do nothing (a hook)."""

    def after_train(self) -> None:
        """Do nothing (a hook)."""

    def before_epoch(self) -> None:
        """Do nothing (a hook)."""

    def after_epoch(self) -> None:
        """Do nothing (a hook)."""

    def run_epoch(self) -> None:
        raise NotImplementedError

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float] | None:
        """Train one step on one batch; return values for the log, e.g. ``{"loss": 0.3}``."""
        raise NotImplementedError

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: torch.Tensor) -> None:
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(
        self, loss: torch.Tensor, names: str | list[str] | None = None
    ) -> None:
        """Zero the gradients, backpropagate ``loss`` and step the optimisers of ``names``."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)


def _check_finite(name: str, weights: Mapping[str, torch.Tensor], epoch: int) -> None:
    for key, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise FloatingPointError(
                f"{key} of {name!r} holds infinite or NaN values in epoch {epoch + 1}, so it was "
                "not saved: lower OPTIM.LR or train the prompts in fp32."
            )
