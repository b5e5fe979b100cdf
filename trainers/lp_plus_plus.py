"""LP++: a linear probe whose classes also weigh their text feature (arXiv 2404.02285)."""

import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from dassl.data.samplers import SequentialSampler
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from prompting import NoPrompts, PromptedCLIP, frozen_text_features
from prompting.layers import linear
from prompting.templates import zero_shot_templates
from trainers.base import Gradients, PromptTrainer
from trainers.shot_features import shot_features, validation_features

ALPHA, ALPHA_EPOCHS = 250.0, 10  # its scale at first, and how often it is stepped


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.LPPLUSPLUS (ours); step sizes and weights follow from the data."""
    node = cfg.TRAINER.LPPLUSPLUS = CfgNode()
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16


class BlendedProbe(NoPrompts):
    """For each of C classes a weight (D,), a bias, and the weight alpha of its text feature."""

    def __init__(self, classes: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        first = linear(width, classes, generator)
        self.weight, self.bias = first.weight, first.bias
        self.alpha = nn.Parameter(torch.full((classes,), ALPHA))


class ProbedCLIP(PromptedCLIP):
    """Classifies by f . (w_c + alpha_c t_c) + b_c, without CLIP's scale."""

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        probe = self.prompt_learner
        return F.linear(image, probe.weight, probe.bias) + probe.alpha * (image @ text.T)


def step_sizes(image: Tensor, text: Tensor) -> tuple[float, float]:
    """Return the steps of the probe and of alpha, from bounds of the curvature (LP++, section 4).

        4 N / max eigenvalue of F^T F        N / (4 max_c sum_n (f_n . t_c)^2)

    Args:
        image: F (N, D), of the shots.
        text: (C, D).
    """
    curvature = torch.linalg.eigvalsh((image.T @ image).double())[-1]
    alpha = (image @ text.T).square().sum(dim=0).max()
    return float(4 * len(image) / curvature), float(len(image) / (4 * alpha))


@TRAINER_REGISTRY.register()
class LPPlusPlus(PromptTrainer):
    """Steps on all shots at once; the latest best epoch on the validation draw counts."""

    node = "LPPLUSPLUS"
    per_class = "a classifier"
    pure_step = False  # what it keeps: gradients of alpha, the best epoch
    validation: tuple[Tensor, Tensor] | None = None

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        templates = zero_shot_templates(self.cfg.DATASET.NAME)
        text = frozen_text_features(self.backbone, classnames, templates, normalize=True)
        probe = BlendedProbe(len(classnames), text.shape[1], generator).to(self.device)
        model = ProbedCLIP(self.backbone, probe, classnames, templates[0])
        model.frozen_text = text
        model.fix_text(text)
        self.sizes = (self.cfg.OPTIM.LR, 0.0)  # until the shots are seen
        self.alpha_gradient = torch.zeros_like(probe.alpha)
        self.best: dict[str, Any] = {"right": -1}
        return model

    def build_model(self) -> None:
        super().build_model()
        self.scaler = None  # features are frozen, and the loss is fp32 in every precision

    def before_train(self) -> None:
        """Encode the shots, the same whether the run is new or resumed; begin with their sums."""
        began = time.monotonic()
        image, labels = shot_features(self, passes=1)
        self.validation = validation_features(self)
        encoding = time.monotonic() - began  # the clock starts after it
        self.sizes = step_sizes(image, self.model.frozen_text)
        shots = [{"img": image.cpu(), "label": labels.cpu()}]
        order = SequentialSampler(shots)
        self.train_loader_x = DataLoader(shots, sampler=order, collate_fn=lambda batch: batch[0])
        super().before_train()
        self.leave_out(-encoding)
        if self.start_epoch == 0 and not self.batches_done:
            self._begin(image, labels)

    @torch.no_grad()
    def _begin(self, image: Tensor, labels: Tensor) -> None:
        """Set weights to the sums of their class, alphas to 250 times the mean similarity."""
        probe, text = self.model.prompt_learner, self.model.frozen_text
        probe.weight.zero_().index_add_(0, labels, image)
        own = (image * text[labels]).sum(dim=1)
        counts = torch.bincount(labels, minlength=len(text))
        means = torch.zeros_like(probe.alpha).index_add_(0, labels, own) / counts
        probe.alpha.fill_(ALPHA * means.mean())

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the loss of features (N, D), or of images."""
        features = images if images.ndim == 2 else self.model.image_features(images)
        logits = self.model.logits(features, self.model.frozen_text)
        return {"loss_ce": F.cross_entropy(logits, labels)}, logits

    def update(self, values: Tensor, gradients: Gradients) -> dict[str, float]:
        probe, (weight, bias, alpha) = self.model.prompt_learner, gradients
        for group in self.optim.param_groups:
            group["lr"] = self.sizes[0]
        summary = super().update(values, (weight, bias, None))
        self.alpha_gradient += alpha  # the sum so far, as in its code
        if (self.epoch + 1) % ALPHA_EPOCHS == 0:
            probe.alpha.data -= self.sizes[1] * self.alpha_gradient
        return summary

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Keep the step size."""

    def after_epoch(self) -> None:
        """Keep the latest best epoch; the last one ends with it."""
        probe = self.model.prompt_learner
        if self.validation is not None:
            image, labels = self.validation
            scores = self.model.logits(image, self.model.frozen_text)
            right = int((scores.argmax(dim=1) == labels).sum())
            if right >= self.best["right"]:
                state = {key: value.clone() for key, value in probe.state_dict().items()}
                self.best = {"right": right, "state": state}
            if self.epoch + 1 == self.max_epoch:
                probe.load_state_dict(self.best["state"])
        super().after_epoch()

    def extra_state(self) -> dict:
        return {"alpha_gradient": self.alpha_gradient, "best": self.best}

    def load_extra_state(self, state: Mapping) -> None:
        self.alpha_gradient = state["alpha_gradient"].to(self.device)
        self.best = state["best"]
