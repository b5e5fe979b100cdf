"""ProGrad: CoOp that never steps against what zero-shot CLIP knows (arXiv 2205.14865)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor
from yacs.config import CfgNode

from prompting import word_embeddings
from prompting.templates import PROGRAD_TEMPLATES
from trainers.base import Gradients
from trainers.coop import CoOp, context_init


def add_config(cfg: CfgNode) -> None:
    """Add the node LOSS of ProGrad's code base; the rest is in TRAINER.COOP."""
    node = cfg.LOSS = CfgNode()
    node.NAME = "prograd"  # accepted for compatibility; there is no other
    node.T = 1.0  # temperature of the distillation
    node.LAMBDA = 1.0  # how much of the conflicting part is taken off
    node.ALPHA = 0.0  # accepted for compatibility, without effect there as here
    node.GM = False  # accepted for compatibility, without effect there as here


def project(gradient: Tensor, general: Tensor, strength: float) -> Tensor:
    """Take off the gradient's part that points against the general direction (ProGrad, eq. 4).

        G - strength (G . D) D / |D|^2   where G . D < 0, else G

    Args:
        gradient: of the cross entropy, G.
        general: of the distillation from zero-shot CLIP, D, of the same shape.
    """
    along = (gradient * general).sum() / general.square().sum().clamp(min=1e-30)
    return gradient - strength * along.clamp(max=0) * general


@TRAINER_REGISTRY.register()
class ProGrad(CoOp):
    """Cross entropy whose gradient is projected by that of a distillation from zero-shot CLIP."""

    templates = PROGRAD_TEMPLATES

    def initial_context(self, classes: int, generator: torch.Generator) -> tuple[str, Tensor]:
        """Return, with CTX_INIT, the template's first words, behind zeros up to N_CTX tokens."""
        if not context_init(self.options.CTX_INIT):
            return super().initial_context(classes, generator)
        words = self.template().partition("{}")[0].strip()
        found = word_embeddings(self.backbone, words)
        missing = self.options.N_CTX - len(found)
        if missing < 0:
            raise ValueError(
                f'TRAINER.COOP.N_CTX is {self.options.N_CTX}, and "{words}" has {len(found)} '
                "tokens: give at least as many."
            )
        context = torch.cat([torch.zeros(missing, found.shape[1]), found])
        repeated = context.repeat(classes, 1, 1) if self.options.CSC else context
        return " ".join(["X"] * missing + [words]), repeated

    def frozen_templates(self) -> tuple[str, ...]:
        return (self.template(),)

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        model, temperature = self.model, self.cfg.LOSS.T
        image = model.image_features(images)
        logits = model.logits(image, model.text_features(model.prompt_learner()[0]))
        general = (model.logits(image, model.frozen_text) / temperature).softmax(dim=1)
        distance = F.cross_entropy(logits / temperature, general) * temperature**2
        return {"loss_ce": F.cross_entropy(logits, labels), "loss_general": distance}, logits

    def gradients(self, terms: Mapping[str, Tensor]) -> Gradients:
        general = torch.autograd.grad(
            self.scale_loss(terms["loss_general"]), self.trainable_params, retain_graph=True
        )
        special = torch.autograd.grad(self.scale_loss(terms["loss_ce"]), self.trainable_params)
        strength = self.cfg.LOSS.LAMBDA
        return [project(*pair, strength) for pair in zip(special, general, strict=True)]
