"""CoCoOp: a context that every image shifts (arXiv 2203.05557)."""

from contextlib import AbstractContextManager, nullcontext

import torch
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import Context, PromptedCLIP, initial_context
from prompting.layers import linear
from trainers.base import PromptTrainer

TEXTS_AT_ONCE = 2048  # images times classes: bounds the memory of an evaluation


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.COCOOP, with the keys and defaults of CoOp's code base."""
    node = cfg.TRAINER.COCOOP = CfgNode()
    node.N_CTX = 16  # context tokens, where they are random at first
    node.CTX_INIT = ""  # words to begin with, which then set N_CTX
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (upstream's own default is fp16)


class ShiftedContext(Context):
    """A context (T, d_t), and a bottleneck of D / 16 units that makes its shift from an image."""

    def __init__(self, initial: Tensor, joint_width: int, generator: torch.Generator) -> None:
        super().__init__(initial)
        hidden, width = joint_width // 16, initial.shape[-1]
        self.meta_net = nn.Sequential(
            linear(joint_width, hidden, generator), nn.ReLU(), linear(hidden, width, generator)
        )

    def contexts(self, image: Tensor) -> Tensor:
        """Return a context for each of the images' normalised features (B, D): (B, 1, T, d_t)."""
        return self.ctx + self.meta_net(image)[:, None, None, :]


class ConditionalCLIP(PromptedCLIP):
    """Classifies each image by text features of its own."""

    def forward(self, images: Tensor) -> Tensor:
        image = self.image_features(images)
        at_once = max(1, TEXTS_AT_ONCE // len(self.tokenized_prompts.tokens))
        return torch.cat([self._conditional_logits(part) for part in image.split(at_once)])

    def _conditional_logits(self, image: Tensor) -> Tensor:
        text = self.text_features((self.prompt_learner.contexts(image),))  # (B, C, D)
        return self.logit_scale * (text @ image[..., None]).squeeze(-1)

    def fixed_text(self) -> AbstractContextManager:
        """Encode nothing once: the text depends on the image."""
        return nullcontext()


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Trains a context and how images shift it, by cross entropy."""

    node = "COCOOP"

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        words = options.CTX_INIT.replace("_", " ").strip()
        words, context = initial_context(self.backbone, words, options.N_CTX, generator)
        joint_width = self.backbone.model.text_projection.shape[1]
        prompt_learner = ShiftedContext(context, joint_width, generator)
        return ConditionalCLIP(self.backbone, prompt_learner, classnames, words + " {}.")
