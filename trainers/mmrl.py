"""MMRL: representation tokens of both towers, from one shared space (arXiv 2503.08497)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import PromptedCLIP, encode_text, knowledge_guidance
from prompting.backbone import Backbone, require_openai
from prompting.image_encoder import encode_image_tokens
from prompting.layers import linear
from prompting.precision import autocast
from prompting.prompts import random_prompts, tower_widths
from prompting.templates import template_for
from prompting.text_encoder import insert_tokens
from trainers.base import PromptTrainer

Tokens = list[Tensor | None]


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.MMRL, with the keys and defaults of its code base."""
    node = cfg.TRAINER.MMRL = CfgNode()
    node.ALPHA = 0.7  # weight of the class features' logits; the rest is the representation's
    node.REG_WEIGHT = 1.0  # of both distances to the frozen CLIP
    node.N_REP_TOKENS = 5
    node.REP_LAYERS = [6, 7, 8, 9, 10, 11, 12]  # layers with their own tokens, from 1
    node.REP_DIM = 512  # width of the shared space
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (MMRL's own default is fp16)


class RepresentationTokens(nn.Module):
    """K tokens of width r, a map of each layer into each tower, `proj` (d_v, D) of their mean."""

    def __init__(
        self, backbone: Backbone, layers: Sequence[int], count: int, width: int,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = list(layers)
        self.tokens = nn.Parameter(random_prompts((count, width), generator))
        for tower, inside in zip(("text", "vision"), tower_widths(backbone), strict=True):
            maps = nn.ModuleList(linear(width, inside, generator) for _ in layers)
            for each in maps[1:]:  # all layers begin with the same map
                each.load_state_dict(maps[0].state_dict())
            setattr(self, tower, maps)
        shape = backbone.model.visual.proj.shape
        self.proj = nn.Parameter(torch.randn(shape, generator=generator) * shape[0] ** -0.5)

    def forward(self) -> tuple[tuple, Tokens]:
        """Return no text prompts, and the vision prompts of every layer, or None."""
        return (), self._of_layers(self.vision)

    def text_tokens(self) -> Tokens:
        """Return what is inserted behind [SOS] in every layer of the text tower, or None."""
        return self._of_layers(self.text)

    def _of_layers(self, maps: nn.ModuleList) -> Tokens:
        found: Tokens = [None] * self.layers[-1]
        for layer, each in zip(self.layers, maps, strict=True):
            found[layer - 1] = each(self.tokens)
        return found


class RepresentationCLIP(PromptedCLIP):
    """Classifies by [CLS] and, on what it was trained on, by the representation tokens too."""

    fused = True

    def __init__(
        self, backbone: Backbone, learner: RepresentationTokens, classnames: Sequence[str],
        template: str, alpha: float,
    ) -> None:  # fmt: skip
        super().__init__(backbone, learner, classnames, template, templates=(template,))
        self.alpha = alpha
        self.inserted = insert_tokens(self.tokenized_prompts, len(learner.tokens))

    def forward(self, images: Tensor) -> Tensor:
        text = self.text_features(()) if self._fixed_text is None else self._fixed_text
        image, representation = self.image_and_representation(images)
        logits = self.logits(image, text)
        return self.fuse(logits, self.logits(representation, text)) if self.fused else logits

    def image_and_representation(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of [CLS] and of the tokens, both (B, D), normalised."""
        learner = self.prompt_learner
        with autocast(self.precision, self.device):
            count = len(learner.tokens)
            x = encode_image_tokens(self.clip, images, learner()[1], count)
            image = x[:, 0] @ self.clip.visual.proj
            representation = x[:, 1:].mean(dim=1) @ learner.proj.type(x.dtype)
        return F.normalize(image.float(), dim=-1), F.normalize(representation.float(), dim=-1)

    def encode_text(self, prompts: Sequence[Tensor | None]) -> Tensor:
        inserted = self.inserted, self.prompt_learner.text_tokens()
        return encode_text(self.clip, self.tokenized_prompts, prompts, inserted=inserted)

    def fuse(self, logits: Tensor, representation: Tensor) -> Tensor:
        """Mix the two logits (B, C)."""
        return self.alpha * logits + (1 - self.alpha) * representation


@TRAINER_REGISTRY.register()
class MMRL(PromptTrainer):
    """Trains both logits by cross entropy, and holds the features near those of CLIP."""

    node = "MMRL"
    training_only = ("PREC", "REG_WEIGHT")
    needed = (*PromptTrainer.needed, "config", "classnames")

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        require_openai(self.backbone, "MMRL")
        options = self.options
        layers = list(options.REP_LAYERS)
        deepest = min(len(tower.blocks) for tower in (self.backbone.text, self.backbone.image))
        if not layers or layers != sorted(set(layers) & set(range(2, deepest + 1))):
            raise ValueError(
                f"TRAINER.MMRL.REP_LAYERS is {layers}: give layers of this backbone in their "
                f"order, from 2 to {deepest}."
            )
        learner = RepresentationTokens(
            self.backbone, layers, options.N_REP_TOKENS, options.REP_DIM, generator
        )
        template = template_for(self.cfg.DATASET.NAME, {})
        return RepresentationCLIP(self.backbone, learner, classnames, template, options.ALPHA)

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        options, model = self.options, self.model
        embedded = model.embed(images)
        image, representation = model.image_and_representation(embedded)
        text = model.text_features(())
        with torch.no_grad():
            frozen = model.image_features(embedded)
        both = [model.logits(features, text) for features in (image, representation)]
        own, other = (F.cross_entropy(logits, labels) for logits in both)
        terms = {"loss_ce": options.ALPHA * own, "loss_rep": (1 - options.ALPHA) * other}
        for name, pair in (("image", (image, frozen)), ("text", (text, model.frozen_text))):
            terms[f"loss_{name}"] = options.REG_WEIGHT * knowledge_guidance(*pair)
        return terms, model.fuse(*both)

    def read_checkpoint(self, path: Path) -> Mapping:
        """Leave the representation out on other classes or data than those trained on."""
        checkpoint = super().read_checkpoint(path)
        trained = CfgNode.load_cfg(checkpoint["config"]).DATASET.NAME, checkpoint["classnames"]
        self.model.fused = trained == (self.cfg.DATASET.NAME, list(self.dm.dataset.classnames))
        return checkpoint
