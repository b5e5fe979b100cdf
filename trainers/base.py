"""Share backbone, optimiser, step, evaluation and results among all prompt trainers.

A method subclasses `PromptTrainer`, and defines its prompts and its loss.
"""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from dassl.engine import TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import ArgumentError, Backbone, PromptedCLIP, evaluation_metrics, load_backbone
from prompting.cuda_graph import CUDAGraphStep
from prompting.precision import needs_scaler
from trainers.checkpoint import FOLDER, PromptCheckpoints
from trainers.results import recorded_config, write_results

logger = logging.getLogger("dassl")
# The library's messages go where those of the run go.
logging.getLogger("prompting").parent = logger

Gradients = Sequence[Tensor | None]
# The keys of a method's node, by the library's name of the argument; the first that it has counts.
KEYS = {
    "text_tokens": ("N_CTX_TEXT", "N_CTX"),
    "vision_tokens": ("N_CTX_VISION", "N_CTX"),
    "text_depth": ("PROMPT_DEPTH_TEXT", "PROMPT_DEPTH", "PROMPT_DEPTH_VISION"),
    "vision_depth": ("PROMPT_DEPTH_VISION", "PROMPT_DEPTH"),
    "context": ("CTX_INIT", "TEXT_CTX_INIT"),
    "template": ("TEMPLATE", "CTX_INIT", "TEXT_CTX_INIT"),
    "position": ("CLASS_TOKEN_POSITION",),
    "rank": ("RANK",),
    "reduction": ("REDUCTION",),
    "shared": ("SHARED_UP",),
    "std": ("INIT_STD",),
}


class PromptTrainer(PromptCheckpoints, TrainerX):
    """Trains the prompts of a frozen CLIP.

    A subclass sets `node` and implements `build_clip`; it may override `loss_terms`.
    """

    node: str  # the method's own config: cfg.TRAINER.<node>, with at least PREC
    requires_training: bool = True  # whether there is anything to train
    pure_step: bool = True  # whether batch and parameters decide it: for CUDA graphs, many seeds
    command: Sequence[str] | None = None  # what was called, for results.json; None: sys.argv
    seeds: Sequence[int] = ()  # of the runs that are stepped in this process, where several are
    _confidences: list[Tensor] | None = None  # of the images evaluated so far

    @property
    def options(self) -> CfgNode:
        """The method's own config."""
        return self.cfg.TRAINER[self.node]

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        """Build the method's model for these class names, on `self.backbone`."""
        raise NotImplementedError

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted terms of the loss by name, and the logits (B, C)."""
        logits = self.model(images)
        return {"loss_ce": F.cross_entropy(logits, labels)}, logits

    @classmethod
    def load_backbone(cls, cfg: CfgNode) -> Backbone:
        """Load the frozen CLIP of a configuration, to the device of the run."""
        cuda = torch.cuda.is_available() and cfg.USE_CUDA
        node = cfg.MODEL.BACKBONE
        # Upstream's configuration has none of these keys.
        keys = [key for key in ("TRUST", "ACTIVATION", "HEAD_WIDTHS") if key in node]
        device = torch.device("cuda" if cuda else "cpu")
        try:
            options = {key.lower(): node[key] for key in keys}
            return load_backbone(node.NAME, cfg.TRAINER[cls.node].PREC, device, **options)
        except ArgumentError as error:
            key = f"MODEL.BACKBONE.{error.argument.upper()}"
            raise ValueError(f"{key} {error.message}") from error

    # Dassl's hooks

    def build_data_loader(self) -> None:
        """Load the backbone first: it decides the size of the images."""
        cfg = self.cfg
        if self.device.type == "cuda":  # the peak that is reported is this run's alone
            torch.cuda.reset_peak_memory_stats(self.device)
        logger.info("Loading CLIP (backbone: %s)", cfg.MODEL.BACKBONE.NAME)
        self.backbone = self.load_backbone(cfg)
        if tuple(cfg.INPUT.SIZE) != (side := self.backbone.resolution, side):
            raise ValueError(
                f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, and backbone {self.backbone.name} takes "
                f'images of ({side}, {side}): pass INPUT.SIZE "({side}, {side})".'
            )
        super().build_data_loader()

    def build_model(self) -> None:
        cfg = self.cfg
        generator = torch.Generator()
        generator.manual_seed(cfg.SEED) if cfg.SEED >= 0 else generator.seed()
        try:
            self.model = self.build_clip(list(self.dm.dataset.classnames), generator)
        except ArgumentError as error:
            raise ValueError(f"{self._key(error.argument)} {error.message}") from error
        prompt_learner = self.model.prompt_learner.to(self.device)
        if weights := cfg.MODEL.INIT_WEIGHTS:
            prompt_learner.load_state_dict(self.init_weights(Path(weights)))
            logger.info("Loaded initial weights from %s", weights)
        logger.info("Trainable parameters: %s", f"{self.trainable_parameters:,}")
        self.optim = self.sched = self.scaler = None
        if self.trainable_parameters:
            self.optim = build_optimizer(prompt_learner, cfg.OPTIM)
            self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        if needs_scaler(self.backbone.precision, self.device):
            self.scaler = torch.amp.GradScaler("cuda")
        graph = self.pure_step and cfg.TRAIN.get("CUDA_GRAPH", True)  # upstream lacks the key
        self._graph = CUDAGraphStep(graph)
        self.register_model(FOLDER, prompt_learner, self.optim, self.sched)

    def _key(self, argument: str) -> str:
        """Return the configuration key of an argument of the library."""
        keys = [key for key in KEYS.get(argument, ()) if key in self.options]
        return f"TRAINER.{self.node}.{keys[0]}" if keys else argument

    @property
    def trainable_parameters(self) -> int:
        """Return how many numbers are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @property
    def trainable_params(self) -> list[nn.Parameter]:
        """Return the trained parameters."""
        return [p for p in self.model.prompt_learner.parameters() if p.requires_grad]

    # A step

    def parse_batch_train(self, batch: Mapping) -> tuple[Tensor, Tensor]:
        # The loader pins its batches: copies to a GPU need not wait.
        parts = (batch["img"], batch["label"])
        return tuple(part.to(self.device, non_blocking=True) for part in parts)

    def forward_backward(self, batch: Mapping) -> dict[str, float]:
        images, labels = self.parse_batch_train(batch)
        return self.update(*self.step(images, labels))

    def step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
        """Call `compute`, on a GPU by a CUDA graph."""
        return self._graph(self.compute, images, labels)

    def compute(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
        """Compute a step on the device, without changing anything or waiting for it.

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
        """Return loss, accuracy and terms as one vector: one copy brings them all to the CPU."""
        accuracy = 100 * (logits.argmax(dim=1) == labels).float().mean()
        summary = {"loss": sum(terms.values()), "acc": accuracy, **terms}
        self.value_names = tuple(summary)
        return torch.stack([value.detach().float() for value in summary.values()])

    def gradients(self, terms: Mapping[str, Tensor]) -> Gradients:
        """Return gradients of the terms' sum, scaled; a method may combine the terms otherwise.

        One for each of `trainable_params`, None for one that the terms do not depend on.
        """
        loss = self.scale_loss(sum(terms.values()))
        return torch.autograd.grad(loss, self.trainable_params, allow_unused=True)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Multiply the loss by the gradient scaler's factor, where there is one."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def update(self, values: Tensor, gradients: Gradients) -> dict[str, float]:
        """Step with what `compute` returned; return the values of the log by name.

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

    def _check_loss(self, summary: Mapping[str, float]) -> None:
        """Raise FloatingPointError for a loss from which a step could only spoil the prompts."""
        try:
            self.detect_anomaly(torch.tensor(summary["loss"]))
        except FloatingPointError as error:
            terms = [name for name in summary if name not in ("loss", "acc")]
            values = ", ".join(f"{name} {summary[name]:.4g}" for name in terms)
            raise FloatingPointError(
                f"{error} Terms of the loss: {values}; learning rate {self.get_current_lr():.4g}. "
                "Checkpoints written before are kept as they are."
            ) from error

    # Evaluation

    def after_train(self) -> None:
        """Give back what steps held on the GPU: the evaluation needs it."""
        self._graph.free()
        self.model.prompt_learner.zero_grad()  # the last gradients lie in the graph's memory
        super().after_train()

    def test(self, split: str | None = None) -> float:
        """Evaluate with the text encoded once; after the final evaluation write `results.json`.

        The final evaluation names no split and takes TEST.SPLIT; `best_val` asks for "val".
        """
        start = time.monotonic()
        self._confidences = []
        with self.model.fixed_text():
            accuracy = super().test(split)
        if split is None:
            facts = self.facts(time.monotonic() - start)
            write_results(Path(self.cfg.OUTPUT_DIR), facts, self.device)
        return accuracy

    def model_inference(self, input: Tensor) -> Tensor:
        """Return the logits (B, C) on the CPU, the batch's one wait; keep how sure they are."""
        logits = self.model(input).cpu()
        if self._confidences is not None:
            self._confidences.append(logits.float().softmax(dim=1).amax(dim=1))
        return logits

    def metrics(self) -> dict:
        """Return what `evaluation_metrics` makes of the last evaluation."""
        seen = (torch.tensor(self.evaluator._y_true), torch.tensor(self.evaluator._y_pred))
        known = (torch.cat(self._confidences), list(self.dm.dataset.classnames))
        return evaluation_metrics(*seen, *known)

    def facts(self, evaluation_seconds: float) -> dict:
        """Return what `results.json` tells of this run, just evaluated on TEST.SPLIT."""
        cfg, dataset = self.cfg, self.dm.dataset
        test_only = getattr(dataset, "test_only", False)  # upstream's data sets do not say
        trained = hasattr(self, "time_start")
        correct, total = int(self.evaluator._correct), int(self.evaluator._total)
        training = self._training_seconds() - evaluation_seconds if trained else 0.0
        facts = {
            "trainer": cfg.TRAINER.NAME,
            "dataset": cfg.DATASET.NAME,
            "subsample": cfg.DATASET.SUBSAMPLE_CLASSES,
            "shots": cfg.DATASET.NUM_SHOTS,
            "seed": cfg.SEED,
            "split": cfg.TEST.SPLIT,
            "accuracy": 100.0 * correct / total,
            "correct": correct,
            "total": total,
            **self.metrics(),
            "classes": self.num_classes,
            "split_source": getattr(dataset, "split_source", None),
            "training_images": 0 if test_only else len(dataset.train_x),
            "epochs": cfg.OPTIM.MAX_EPOCH if trained else 0,
            "evaluated_checkpoint": self.loaded,
            "trainable_parameters": self.trainable_parameters,
            "backbone": {"name": self.backbone.name, "sha256": self.backbone.sha256},
            "precision": self.backbone.precision,
            "cuda_graph": {"used": self._graph.used, "reason": self._graph.reason},
            "seconds": {"training": training, "evaluation": evaluation_seconds},
            "command": list(sys.argv if self.command is None else self.command),
            "config": recorded_config(cfg, self.requires_training),
        }
        if self.seeds:  # then seconds and memory are those of all these seeds
            facts["together"] = list(self.seeds)
        return facts

    def _training_seconds(self) -> float:
        """Return seconds with those before an interruption, which upstream's engine lacks."""
        if hasattr(self, "training_seconds"):
            return self.training_seconds
        return time.time() - self.time_start
