"""What all prompt trainers share: backbone, optimiser, step, evaluation, checkpoints, results.

A method subclasses `PromptTrainer`, names its config node, and says which prompts it learns and
what its loss is. Of Dassl only the public surface is used.
"""

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from dassl.engine import TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import ArgumentError, Backbone, PromptedCLIP
from prompting.precision import check_precision, needs_scaler
from trainers.backbones import load_backbone
from trainers.capture import Captured
from trainers.checkpoints import check_shapes, checkpoint_path
from trainers.results import images_digest, write_results

logger = logging.getLogger("dassl")
# The library's messages go where those of the run go.
logging.getLogger("prompting").parent = logger

MODEL_NAME = "prompt_learner"  # folder of the checkpoints, as in CoOp
Gradients = Sequence[Tensor | None]
# The keys of a method's node, by the library's name of the argument; the first that it has counts.
KEYS = {
    "text_tokens": ("N_CTX_TEXT", "N_CTX"),
    "vision_tokens": ("N_CTX_VISION", "N_CTX"),
    "text_depth": ("PROMPT_DEPTH_TEXT", "PROMPT_DEPTH", "PROMPT_DEPTH_VISION"),
    "vision_depth": ("PROMPT_DEPTH_VISION", "PROMPT_DEPTH"),
    "context": ("CTX_INIT", "TEXT_CTX_INIT"),
    "position": ("CLASS_TOKEN_POSITION",),
    "rank": ("RANK",),
    "shared": ("SHARED_UP",),
    "std": ("INIT_STD",),
}


class PromptTrainer(TrainerX):
    """Learns the prompts of a frozen CLIP.

    A subclass sets `node` and implements `build_clip`; it may override `loss_terms`.
    """

    node: str  # the method's own config: cfg.TRAINER.<node>, with at least PREC
    training_only: tuple[str, ...] = ("PREC",)  # its keys that trained prompts do not depend on
    added_options: Mapping[
        str, object
    ] = {}  # keys that old checkpoints lack, and their values then
    requires_training: bool = True  # whether there is anything to train
    loaded: Mapping | None = None  # path and epoch of the checkpoint that is evaluated

    @property
    def options(self) -> CfgNode:
        """The method's own config."""
        return self.cfg.TRAINER[self.node]

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        """The model of the method for these class names, on `self.backbone`."""
        raise NotImplementedError

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The weighted terms of the loss by name, and the logits (B, C)."""
        logits = self.model(images)
        return {"loss_ce": F.cross_entropy(logits, labels)}, logits

    # Dassl's hooks

    def check_cfg(self, cfg: CfgNode) -> None:
        check_precision(cfg.TRAINER[self.node].PREC)

    def build_data_loader(self) -> None:
        """Load the backbone first: it decides the size of the pictures."""
        cfg = self.cfg
        if self.device.type == "cuda":  # the peak that is reported is this run's alone
            torch.cuda.reset_peak_memory_stats(self.device)
        logger.info("Loading CLIP (backbone: %s)", cfg.MODEL.BACKBONE.NAME)
        self.backbone = load_backbone(
            cfg.MODEL.BACKBONE.NAME,
            self.options.PREC,
            self.device,
            # Upstream's configuration has no such key.
            trust=cfg.MODEL.BACKBONE.get("TRUST", False),
        )
        _fit_input_size(cfg, self.backbone)
        super().build_data_loader()

    def build_model(self) -> None:
        cfg = self.cfg
        generator = torch.Generator()
        if cfg.SEED >= 0:
            generator.manual_seed(cfg.SEED)
        else:
            generator.seed()
        try:
            self.model = self.build_clip(list(self.dm.dataset.classnames), generator)
        except ArgumentError as error:
            raise ValueError(f"{self._key(error.argument)} {error.message}") from error
        prompt_learner = self.model.prompt_learner.to(self.device)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        logger.info("Trainable parameters: %s", f"{self.trainable_parameters:,}")
        self.optim = self.sched = self.scaler = None
        if self.trainable_parameters:
            self.optim = build_optimizer(prompt_learner, cfg.OPTIM)
            self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        if needs_scaler(self.options.PREC, self.device):
            self.scaler = torch.amp.GradScaler("cuda")
        # Upstream's configuration has no such key.
        self._graph = Captured(cfg.TRAIN.get("CUDA_GRAPH", True))
        self.register_model(MODEL_NAME, prompt_learner, self.optim, self.sched)

    def _key(self, argument: str) -> str:
        """Return the configuration key of an argument of the library."""
        keys = [key for key in KEYS.get(argument, ()) if key in self.options]
        return f"TRAINER.{self.node}.{keys[0]}" if keys else argument

    @property
    def trainable_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def parse_batch_train(self, batch: Mapping) -> tuple[Tensor, Tensor]:
        # The loader pins its batches: copies to a GPU need not wait.
        parts = (batch["img"], batch["label"])
        return tuple(part.to(self.device, non_blocking=True) for part in parts)

    def forward_backward(self, batch: Mapping) -> dict[str, float]:
        images, labels = self.parse_batch_train(batch)
        return self.update(*self.step(images, labels))

    def step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
        """`compute`, on a GPU by a CUDA graph."""
        return self._graph(self.compute, images, labels)

    def compute(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
        """What a step computes on the device, without changing anything or waiting for it.

        Args:
            images: (B, 3, H, W).
            labels: (B,).

        Returns:
            The values of the log (`value_names` has their names: loss, acc, the terms), and the
            gradients of `trainable_params`.
        """
        terms, logits = self.loss_terms(images, labels)
        values = self.values(terms, logits, labels)
        return values, self.gradients(terms)

    def values(self, terms: Mapping[str, Tensor], logits: Tensor, labels: Tensor) -> Tensor:
        """Loss, accuracy and terms, one vector: a single copy brings them all to the CPU."""
        accuracy = 100 * (logits.argmax(dim=1) == labels).float().mean()
        summary = {"loss": sum(terms.values()), "acc": accuracy, **terms}
        self.value_names = tuple(summary)
        return torch.stack([value.detach().float() for value in summary.values()])

    def gradients(self, terms: Mapping[str, Tensor]) -> Gradients:
        """Gradients of the terms' sum, scaled; a method may combine the terms otherwise.

        One for each of `trainable_params`, None for one that the terms do not depend on.
        """
        loss = self.scale_loss(sum(terms.values()))
        return torch.autograd.grad(loss, self.trainable_params, allow_unused=True)

    def update(self, values: Tensor, gradients: Gradients) -> dict[str, float]:
        """Step with what `compute` returned; gives the values of the log by name.

        Raises:
            FloatingPointError: a loss that is infinite or NaN; nothing was changed.
        """
        summary = dict(zip(self.value_names, values.tolist(), strict=True))
        self._check_loss(summary)
        for parameter, gradient in zip(self.trainable_params, gradients, strict=True):
            parameter.grad = gradient
        if self.scaler is None:
            self.optim.step()
        else:
            self.scaler.step(self.optim)
            self.scaler.update()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return summary

    @property
    def trainable_params(self) -> list[nn.Parameter]:
        """What is learned."""
        return [p for p in self.model.prompt_learner.parameters() if p.requires_grad]

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss times the gradient scaler's factor, where there is one."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def test(self, split: str | None = None) -> float:
        """Evaluate with the text encoded once; after the final evaluation write `results.json`.

        The final evaluation names no split and takes TEST.SPLIT; `best_val` asks for "val".
        """
        start = time.monotonic()
        with self.model.fixed_text():
            accuracy = super().test(split)
        if split is None:
            write_results(self, evaluation_seconds=time.monotonic() - start)
        return accuracy

    def _check_loss(self, summary: Mapping[str, float]) -> None:
        """FloatingPointError for a loss from which a step could only spoil the prompts."""
        try:
            self.detect_anomaly(torch.tensor(summary["loss"]))
        except FloatingPointError as error:
            terms = [name for name in summary if name not in ("loss", "acc")]
            told = ", ".join(f"{name} {summary[name]:.4g}" for name in terms)
            raise FloatingPointError(
                f"{error} Terms of the loss: {told}; learning rate {self.get_current_lr():.4g}. "
                "Checkpoints written before are kept as they are."
            ) from error

    # Checkpoints: the prompts, and what is needed to know them again

    def make_checkpoint(self, name: str, epoch: int, val_result: float | None) -> dict:
        """Dassl's keys, of the prompts alone, and where they come from: all plain values."""
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
        """Dassl's hook on resuming, after prompts, optimiser and scheduler are loaded."""
        super().restore_checkpoint(name, checkpoint)
        if self.scaler is not None and checkpoint.get("scaler"):
            self.scaler.load_state_dict(checkpoint["scaler"])
        self.load_extra_state(checkpoint.get("extra_state", {}))

    def check_resumable(self, path: Path) -> None:
        """ValueError unless the checkpoint is of this method, shape, backbone and these images."""
        began_with = self._read_checkpoint(path).get("training_images", self._images_digest)
        if began_with != self._images_digest:
            raise ValueError(
                f"The run of {path} was trained on other images than those that DATASET.ROOT "
                f"{self.cfg.DATASET.ROOT} gives for SEED {self.cfg.SEED}: resume with the data of "
                "its beginning; without a seed every run draws shots of its own, and none resumes."
            )

    @functools.cached_property
    def _images_digest(self) -> str:
        return images_digest(self.dm.dataset.train_x, self.cfg.DATASET.ROOT)

    def extra_state(self) -> dict:
        """What a method keeps from step to step beside prompts and optimiser, for the checkpoint.

        Tensors and plain values only; none by default.
        """
        return {}

    def load_extra_state(self, state: Mapping) -> None:
        """Take up again what `extra_state` gave; tensors come as they were saved."""

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load prompts, whatever classes they were trained on.

        Without an epoch the best model on validation data is taken where there is one, else the
        last.

        Raises:
            FileNotFoundError: no checkpoint there.
            ValueError: prompts of another method, shape or backbone.
        """
        if not directory:
            raise ValueError(
                f"{self.cfg.TRAINER.NAME} needs trained prompts: pass --model-dir with the output "
                "folder of a training run."
            )
        path = checkpoint_path(Path(directory) / MODEL_NAME, epoch)
        checkpoint = self._read_checkpoint(path)
        self.model.prompt_learner.load_state_dict(checkpoint["state_dict"])
        self.loaded = {"path": str(path), "epoch": checkpoint["epoch"]}
        logger.info("Loaded prompts from %s (epoch %s)", path, checkpoint["epoch"])

    def _read_checkpoint(self, path: Path) -> Mapping:
        checkpoint = load_checkpoint(str(path))
        self._check_origin(checkpoint, path)
        check_shapes(self.model.prompt_learner, checkpoint["state_dict"], path)
        self._check_options(checkpoint, path)
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

    def _check_options(self, checkpoint: Mapping, path: Path) -> None:
        """Prompts are evaluated as they were trained: CTX_INIT or UDC must not change silently."""
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


def _fit_input_size(cfg: CfgNode, backbone: Backbone) -> None:
    """Pictures have the size that the backbone takes; there is no other that works."""
    size = (backbone.resolution, backbone.resolution)
    if tuple(cfg.INPUT.SIZE) == size:
        return
    logger.info("INPUT.SIZE is set to %s, the size that %s takes", size, backbone.name)
    frozen = cfg.is_frozen()
    cfg.defrost()
    cfg.INPUT.SIZE = size
    if frozen:
        cfg.freeze()
