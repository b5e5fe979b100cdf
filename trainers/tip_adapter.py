"""Tip-Adapter: a cache of the shots' features next to zero-shot CLIP (arXiv 2207.09519)."""

import logging
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import NoPrompts, PromptedCLIP, frozen_text_features
from prompting.templates import zero_shot_templates
from trainers.shot_features import shot_features, validation_features
from trainers.step_schedule import StepSchedule

logger = logging.getLogger("dassl")

GRID = (200, 20)  # values of beta and alpha that are searched
EPS = 1e-4  # of AdamW


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.TIPADAPTER (ours), of both variants."""
    node = cfg.TRAINER.TIPADAPTER = CfgNode()
    node.ALPHA = 1.17  # weight of the cache, before the search
    node.BETA = 1.0  # sharpness of the cache, before the search
    node.SEARCH_ALPHA = 10.0  # search up to here, on the validation draw; 0: no search
    node.SEARCH_BETA = 12.0
    node.AUGMENT_EPOCHS = 10  # augmentations that a key is the mean of
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16


class Cache(NoPrompts):
    """Keys (N, D), one per shot, with their labels (N,), and the two numbers that are searched."""

    def __init__(
        self, labels: Tensor, width: int, alpha: float, beta: float, trained: bool
    ) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(len(labels), width), requires_grad=trained)
        self.register_buffer("labels", labels)
        self.register_buffer("alpha", torch.tensor(alpha))
        self.register_buffer("beta", torch.tensor(beta))

    def scores(self, image: Tensor, classes: int, beta: Tensor | float) -> Tensor:
        """Return exp(-beta (1 - f . k)), summed over the keys of each class: (B, C) of (B, D)."""
        affinity = (beta * (image @ self.keys.T - 1)).exp()
        return affinity @ F.one_hot(self.labels, classes).type(affinity.dtype)


class CachedCLIP(PromptedCLIP):
    """Adds alpha times the cache's scores to the logits."""

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        cache = self.prompt_learner
        return super().logits(image, text) + cache.alpha * cache.scores(
            image, len(text), cache.beta
        )


@TRAINER_REGISTRY.register()
class TipAdapterF(StepSchedule):
    """Trains the keys of the cache by cross entropy, then searches alpha and beta."""

    node = "TIPADAPTER"
    training_only = ("PREC", "ALPHA", "BETA", "SEARCH_ALPHA", "SEARCH_BETA", "AUGMENT_EPOCHS")
    per_class = "cached features"
    pure_step = False  # it depends on the labels of its own shots
    final_lr = 0.0
    trained = True

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        labels = [item.label for item in self.dm.dataset.train_x]
        labels = torch.tensor(labels, dtype=torch.long)  # there may be none yet
        templates = zero_shot_templates(self.cfg.DATASET.NAME)
        text = frozen_text_features(self.backbone, classnames, templates, normalize=True)
        cache = Cache(labels, text.shape[1], options.ALPHA, options.BETA, self.trained)
        model = CachedCLIP(self.backbone, cache.to(self.device), classnames, templates[0])
        model.frozen_text = text
        model.fix_text(text)
        return model

    def build_model(self) -> None:
        super().build_model()
        for group in self.optim.param_groups if self.optim else ():
            group["eps"] = EPS

    def before_train(self) -> None:
        """Fill the cache, unless a checkpoint did."""
        super().before_train()
        if self.start_epoch == 0 and not self.batches_done:
            keys, _ = shot_features(self, self.options.AUGMENT_EPOCHS)
            self.model.prompt_learner.keys.data.copy_(keys)

    def adapt_checkpoint(self, checkpoint: Mapping) -> Mapping:
        """Make room for the shots that were cached, whatever this run draws."""
        cache, state = self.model.prompt_learner, checkpoint["state_dict"]
        for name in {"keys", "labels"} & set(state):
            own = getattr(cache, name)
            own.data = own.new_zeros(len(state[name]), *own.shape[1:])
        return checkpoint

    def after_epoch(self) -> None:
        """Search after the last epoch."""
        if self.epoch + 1 == self.max_epoch and self.options.SEARCH_ALPHA > 0:
            found = validation_features(self)
            if found is not None:
                self._search(*found)
        super().after_epoch()

    @torch.no_grad()
    def _search(self, image: Tensor, labels: Tensor) -> None:
        """Keep the first pair (beta, alpha) that classifies most of the images (V, D) correctly."""
        options, model, cache = self.options, self.model, self.model.prompt_learner
        zero_shot = PromptedCLIP.logits(model, image, model.frozen_text)
        best = -1
        for beta in _grid(options.SEARCH_BETA, GRID[0]):
            scores = cache.scores(image, zero_shot.shape[1], beta)
            for alpha in _grid(options.SEARCH_ALPHA, GRID[1]):
                right = int(((zero_shot + alpha * scores).argmax(dim=1) == labels).sum())
                if right > best:
                    best = right
                    cache.alpha.fill_(alpha)
                    cache.beta.fill_(beta)
        found = self.cfg.TRAINER.NAME, cache.alpha, cache.beta, best, len(labels)
        logger.info("%s: alpha %.2f, beta %.2f (%d of %d correct)", *found)


def _grid(top: float, count: int) -> list[float]:
    return [0.1 + index * (top - 0.1) / count for index in range(count)]


@TRAINER_REGISTRY.register()
class TipAdapter(TipAdapterF):
    """Fills the cache, searches alpha and beta on the validation draw, and trains nothing."""

    trained = False

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse nothing: it has no steps."""

    def train(self) -> None:
        self.before_train()
        if self.start_epoch < self.max_epoch:
            self.epoch = self.max_epoch - 1
            self.after_epoch()
        self.after_train()
