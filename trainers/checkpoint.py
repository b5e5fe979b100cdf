"""Checkpoints of prompts: what is in them, which one to load, whether it fits."""

import functools
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from dassl.utils import load_checkpoint
from torch import Tensor
from yacs.config import CfgNode

from trainers.results import images_digest

logger = logging.getLogger("dassl")

FOLDER = "prompt_learner"  # of the checkpoints, in the output folder, as in CoOp
BEST = "model-best.pth.tar"
EPOCH = re.compile(r"model\.pth\.tar-(\d+)(?:-(\d+))?")  # epochs and batches done


def last_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint in a folder that was trained longest, None without one."""
    found = {path: EPOCH.fullmatch(path.name) for path in folder.glob("model.pth.tar-*")}
    done = {
        path: tuple(int(n or 0) for n in match.groups()) for path, match in found.items() if match
    }
    return max(done, key=done.get, default=None)


def checkpoint_path(folder: Path, epoch: int | None) -> Path:
    """Return the checkpoint after an epoch; without one the best on validation data, else the last.

    Args:
        folder: that of the prompts, in the output folder of a training.

    Raises:
        FileNotFoundError: it is not there.
    """
    if epoch is not None:
        path = folder / f"model.pth.tar-{epoch}"
    elif (folder / BEST).exists():
        path = folder / BEST
    else:
        path = last_checkpoint(folder) or folder / "model.pth.tar-<epoch>"
    if path.exists():
        return path
    found = sorted(p.name for p in folder.glob("model*.pth.tar*"))
    if not found:
        raise FileNotFoundError(
            f"No checkpoint in {folder}: --model-dir takes the OUTPUT_DIR of a training run."
        )
    raise FileNotFoundError(
        f"No checkpoint {path}; the folder holds {', '.join(found)}: --load-epoch takes one of "
        "these epochs."
    )


class PromptCheckpoints:
    """The part of a trainer that writes and reads its checkpoints, with Dassl's hooks."""

    training_only: tuple[str, ...] = ("PREC",)  # options that trained prompts do not depend on
    per_class: str = ""  # what is trained for each class, and has no use for others
    needed: tuple[str, ...] = ("state_dict", "epoch")  # keys without which none can be loaded
    added_options: Mapping[str, object] = {}  # what old checkpoints were trained without knowing
    loaded: Mapping | None = None  # path and epoch of the checkpoint that is evaluated

    def make_checkpoint(self, name: str, epoch: int, val_result: float | None) -> dict:
        """Return Dassl's keys, of the prompts alone, and where they come from: plain values."""
        return {
            **super().make_checkpoint(name, epoch, val_result),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "extra_state": dict(self.extra_state()),
            "trainer": self.cfg.TRAINER.NAME,
            "classnames": list(self.dm.dataset.classnames),
            "training_images": self._images_digest,
            "backbone": {"name": self.backbone.name, "sha256": self.backbone.sha256},
            "config": self.cfg.dump(),
        }

    def restore_checkpoint(self, name: str, checkpoint: Mapping) -> None:
        """Restore what is ours on resuming, after prompts, optimiser and scheduler are loaded."""
        super().restore_checkpoint(name, checkpoint)
        if self.scaler is not None and checkpoint.get("scaler"):
            self.scaler.load_state_dict(checkpoint["scaler"])
        self.load_extra_state(checkpoint.get("extra_state", {}))

    def extra_state(self) -> dict:
        """Return what a method keeps from step to step besides prompts and optimiser.

        Tensors and plain values only, for the checkpoint; none by default.
        """
        return {}

    def load_extra_state(self, state: Mapping) -> None:
        """Restore what `extra_state` returned; tensors come as they were saved."""

    def check_resumable(self, path: Path) -> None:
        """Refuse a checkpoint of another method, shape, backbone, schedule, or of other images.

        Raises:
            ValueError: what differs.
        """
        checkpoint = self.read_checkpoint(path)
        if (checkpoint.get("scheduler") or {}).keys() == {"last_epoch", "base_lrs"}:
            raise ValueError(
                f"{path} holds an older kind of schedule: resume it with the code that began it."
            )
        began_with = checkpoint.get("training_images", self._images_digest)
        if began_with != self._images_digest:
            raise ValueError(
                f"The run of {path} was trained on other images than those that DATASET.ROOT "
                f"{self.cfg.DATASET.ROOT} gives for SEED {self.cfg.SEED}: resume with the data of "
                "its beginning; without a seed every run draws shots of its own, and none resumes."
            )

    @functools.cached_property
    def _images_digest(self) -> str:
        return images_digest(self.dm.dataset.train_x, self.cfg.DATASET.ROOT)

    @classmethod
    def find_checkpoint(cls, directory: str, epoch: int | None) -> Path:
        """Return the checkpoint to evaluate, of a training's output folder; see `load_model`.

        Raises:
            ValueError, FileNotFoundError: no folder is given, or no such checkpoint is in it.
        """
        if not directory:
            raise ValueError(
                f"{cls.__name__} needs trained prompts: pass --model-dir with the output folder of "
                "a training run."
            )
        return checkpoint_path(Path(directory) / FOLDER, epoch)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load prompts, whatever classes they were trained on.

        Without an epoch the best model on validation data is taken where there is one, else the
        last; a warning says where that is not the last of its run.

        Raises:
            FileNotFoundError: no checkpoint there.
            ValueError: prompts of another method, shape or backbone.
        """
        path = self.find_checkpoint(directory, epoch)
        checkpoint = self.read_checkpoint(path)
        self.model.prompt_learner.load_state_dict(checkpoint["state_dict"])
        self.loaded = {"path": str(path), "epoch": checkpoint["epoch"]}
        logger.info("Loaded prompts from %s (epoch %s)", path, checkpoint["epoch"])
        if epoch is None:
            warn_of_unfinished(checkpoint, path)

    def init_weights(self, path: Path) -> dict[str, Tensor]:
        """Read MODEL.INIT_WEIGHTS.

        Raises:
            ValueError: they do not fit whole: what is expected, and what was found.
        """
        checkpoint = load_checkpoint(str(path))
        state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else {}
        tensors = {k.removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
        # CoOp's trainers save the embeddings of their texts next to the context.
        kept = {k: v for k, v in tensors.items() if k not in ("token_prefix", "token_suffix")}
        self._check_shapes(kept, path)
        return kept

    def read_checkpoint(self, path: Path) -> Mapping:
        """Read a checkpoint.

        Raises:
            ValueError: it is of another method, backbone, shape or setting: what to pass; or what
                it lacks.
        """
        checkpoint = load_checkpoint(str(path))
        lacking = [key for key in self.needed if key not in checkpoint]
        if lacking:
            raise ValueError(
                f"{path} lacks {' and '.join(lacking)}, which {self.cfg.TRAINER.NAME} needs: pass "
                "a checkpoint as train.py wrote it."
            )
        self._check_origin(checkpoint, path)
        checkpoint = self.adapt_checkpoint(checkpoint)
        self._check_classes(checkpoint, path)
        self._check_shapes(checkpoint["state_dict"], path)
        self._check_options(checkpoint, path)
        return checkpoint

    def adapt_checkpoint(self, checkpoint: Mapping) -> Mapping:
        """Return a checkpoint as it fits the classes of this run (a hook)."""
        return checkpoint

    def _check_origin(self, checkpoint: Mapping, path: Path) -> None:
        found = checkpoint.get("trainer", self.cfg.TRAINER.NAME)
        if found != self.cfg.TRAINER.NAME:
            raise ValueError(f"{path} holds prompts of {found}: pass --trainer {found}.")
        origin = checkpoint.get("backbone", {})
        if origin.get("sha256", self.backbone.sha256) != self.backbone.sha256:
            raise ValueError(
                f'{path} holds prompts for backbone "{origin["name"]}", and these weights are '
                f'another ("{self.backbone.name}"): set MODEL.BACKBONE.NAME to the one trained on.'
            )

    def _check_shapes(self, state: Mapping[str, Tensor], path: Path) -> None:
        own = self.model.prompt_learner.state_dict()
        expected, found = (
            {name: tuple(value.shape) for name, value in tensors.items()}
            for tensors in (own, state)
        )
        if expected != found:
            raise ValueError(
                f"{path} holds other prompts than this configuration asks for: expected "
                f"{_shapes(expected)}; found {_shapes(found)}. Use the configuration of the "
                "training run (N_CTX, PROMPT_DEPTH, LOW_RANK, RANK, SHARED_UP, the backbone)."
            )

    def _check_classes(self, checkpoint: Mapping, path: Path) -> None:
        names = list(self.dm.dataset.classnames)
        if self.per_class and checkpoint.get("classnames", names) != names:
            raise ValueError(
                f"{path} holds {self.per_class} per class, for other classes than these: evaluate "
                "on those trained on."
            )

    def _check_options(self, checkpoint: Mapping, path: Path) -> None:
        """Evaluate prompts as they were trained: CTX_INIT or UDC must not change silently."""
        if "config" not in checkpoint:
            return
        trained = CfgNode.load_cfg(checkpoint["config"]).TRAINER[self.node]
        for key, value in self.options.items():
            was = trained.get(key, self.added_options.get(key, value))
            if key not in self.training_only and was != value:
                raise ValueError(
                    f"{path} was trained with TRAINER.{self.node}.{key} {was}, and this run has "
                    f"{value}: pass TRAINER.{self.node}.{key} {was}."
                )


def warn_of_unfinished(checkpoint: Mapping, path: Path) -> None:
    """Log a warning where the last checkpoint of a run is not that of its last epoch."""
    config = checkpoint.get("config")  # other programs' checkpoints have none
    epochs = CfgNode.load_cfg(config).OPTIM.MAX_EPOCH if config else 0
    if checkpoint["epoch"] < epochs and path.name != BEST:
        done = f"{checkpoint['epoch']} of {epochs} epochs"
        logger.warning("%s is of an unfinished run: %s are trained", path, done)


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"
