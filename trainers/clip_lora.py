"""CLIP-LoRA: low-rank updates of the attention's projections in both towers (arXiv 2405.18541)."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import NoPrompts, PromptedCLIP, encode_image, encode_text
from prompting.templates import DEFAULT_TEMPLATE
from prompting.transformer import Project
from trainers.step_schedule import StepSchedule

MATRICES = 3  # of queries, keys and values


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.CLIPLORA (ours; the code base takes these from its command line)."""
    node = cfg.TRAINER.CLIPLORA = CfgNode()
    node.RANK = 2
    node.ALPHA = 1.0  # updates are multiplied by ALPHA / sqrt(RANK)
    node.DROPOUT = 0.25  # of what enters an update, in training
    node.EPOCH_STEPS = 0  # steps of an epoch, per shot; 0: each image once
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16


class LowRankUpdates(NoPrompts):
    """For each layer of both towers an update of each projection, whose weights stay as they are.

        y = W x + s B A dropout(x),    A (r, d) drawn at first, B (d, r) zero at first

    Args:
        towers: width d and number of layers, of the text and of the image tower.
    """

    def __init__(
        self,
        towers: Sequence[tuple[int, int]],
        rank: int,
        scale: float,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.scale, self.dropout = scale, dropout
        for tower, (width, layers) in zip(("text", "vision"), towers, strict=True):
            down = torch.empty(layers, MATRICES, rank, width)
            nn.init.uniform_(down, -(width**-0.5), width**-0.5, generator=generator)
            setattr(self, f"{tower}_down", nn.Parameter(down))
            setattr(self, f"{tower}_up", nn.Parameter(torch.zeros(layers, MATRICES, width, rank)))

    def text(self) -> list[Project]:
        """Return what makes queries, keys and values in each layer of the text tower."""
        return self._tower(self.text_down, self.text_up)

    def vision(self) -> list[Project]:
        """Return the same for the image tower."""
        return self._tower(self.vision_down, self.vision_up)

    def _tower(self, down: Tensor, up: Tensor) -> list[Project]:
        dropout = self.dropout if self.training else 0.0
        return [
            partial(project, down=self.scale * a, up=b, dropout=dropout)
            for a, b in zip(down, up, strict=True)
        ]


def project(
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    rows: slice,
    down: Tensor,
    up: Tensor,
    dropout: float,
) -> Tensor:
    """Project tokens (B, L, d) as `prompting.transformer.project` does, with updated matrices.

    Without dropout the updates are merged into the matrices.

    Args:
        down, up: (3, r, d) and (3, d, r) for queries, keys and values.
    """
    weight, bias = weight[rows], bias[rows]
    first, last, _ = rows.indices(MATRICES * x.shape[-1])
    parts = slice(first // x.shape[-1], last // x.shape[-1])
    down, up = down[parts].type(weight.dtype), up[parts].type(weight.dtype)
    if not dropout:
        return F.linear(x, weight + (up @ down).flatten(0, 1), bias)
    updates = [F.dropout(x, dropout) @ a.T @ b.T for a, b in zip(down, up, strict=True)]
    return F.linear(x, weight, bias) + torch.cat(updates, dim=-1)


class LoRACLIP(PromptedCLIP):
    """Classifies with updated attention in both towers; the text is frozen words."""

    def encode_image(self, images: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        projections = self.prompt_learner.vision()
        return encode_image(self.clip, images, prompts, projections=projections)

    def encode_text(self, prompts: Sequence[Tensor | None]) -> Tensor:
        projections = self.prompt_learner.text()
        return encode_text(self.clip, self.tokenized_prompts, prompts, projections=projections)


@TRAINER_REGISTRY.register()
class CLIPLoRA(StepSchedule):
    """Trains low-rank updates of both towers by cross entropy."""

    node = "CLIPLORA"
    training_only = ("PREC", "DROPOUT", "EPOCH_STEPS")
    pure_step = False  # dropout draws

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options, towers = self.options, (self.backbone.text, self.backbone.image)
        if not self.backbone.image.projects:
            raise ValueError(
                f"CLIPLoRA updates the attention of OpenAI's and open_clip's own towers, and the "
                f'image tower of backbone "{self.backbone.name}" is one of timm: choose another.'
            )
        prompt_learner = LowRankUpdates(
            [(tower.width, len(tower.blocks)) for tower in towers],
            options.RANK,
            options.ALPHA / options.RANK**0.5,
            options.DROPOUT,
            generator,
        )
        return LoRACLIP(self.backbone, prompt_learner, classnames, DEFAULT_TEMPLATE)
