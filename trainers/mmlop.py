"""MMLoP: multi-modal low-rank prompting (arXiv 2602.21397).

    P_l^t = U_l V_l^t,   P_l^v = U_l V_l^v                     low-rank prompts, U shared
    g~_c  = normalise(g_c - mean_c (g_c - g0_c))               uniform drift correction
    L     = CE(y, s f g~^T) + a_v |f - f0| + a_t |g~ - g0| + a_l KL(frozen || prompted)

Each part has a key of its own, so that every row of the paper's ablation is a configuration: with
LOW_RANK, SCL and UDC off this is IVLP.
"""

import torch
import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import (
    Consistency,
    FullRankPrompts,
    LowRankPrompts,
    PromptedCLIP,
    context_text,
    initial_prompts,
)
from prompting.templates import ENSEMBLE
from trainers.base import PromptTrainer
from trainers.consistency import consistency_terms


def add_config(cfg: CfgNode) -> None:
    """The node TRAINER.MMLOP; each value is the paper's, inferred, or ours."""
    node = cfg.TRAINER.MMLOP = CfgNode()
    node.N_CTX = 4  # T, prompt tokens of each tower (inferred from 11.5K parameters)
    node.CTX_INIT = "a photo of a"  # words before the class name (inferred from PromptSRC)
    node.PROMPT_DEPTH_TEXT = 9  # J of the text tower (paper)
    node.PROMPT_DEPTH_VISION = 9  # J of the image tower (paper)
    node.LOW_RANK = True  # P = U V; False: free prompts (paper)
    node.RANK = 1  # r (paper)
    node.SHARED_UP = True  # one U for both towers (paper)
    node.UP_PER_LAYER = True  # ours: a U for each layer; False: one for all
    node.INIT = "svd"  # ours: start of the factors, svd, normal or zero
    node.SCL = True  # self-regulating consistency (paper)
    node.TEXT_LOSS_WEIGHT = 25.0  # a_t (inferred from PromptSRC)
    node.IMAGE_LOSS_WEIGHT = 10.0  # a_v (inferred from PromptSRC)
    node.LOGITS_LOSS_WEIGHT = 1.0  # a_l (inferred from PromptSRC)
    node.UDC = True  # uniform drift correction (paper)
    node.SCL_AFTER_UDC = True  # ours: consistency sees the drift-corrected text features
    node.PREC = "fp32"  # ours: fp32, amp, bf16, fp16


@TRAINER_REGISTRY.register()
class MMLoP(PromptTrainer):
    """Low-rank prompts in both towers, held to the frozen CLIP."""

    node = "MMLOP"
    training_only = (
        "PREC", "INIT", "SCL", "SCL_AFTER_UDC",
        "TEXT_LOSS_WEIGHT", "IMAGE_LOSS_WEIGHT", "LOGITS_LOSS_WEIGHT",
    )  # fmt: skip

    def build_prompted(self, names: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        return PromptedCLIP(
            self.backbone,
            self._build_learner(generator),
            names,
            context_text(options.CTX_INIT, options.N_CTX) + " {}.",
            templates=ENSEMBLE if options.SCL or options.UDC else (),
            drift_correction=options.UDC,
        )

    def _build_learner(self, generator: torch.Generator) -> nn.Module:
        options = self.options
        start = initial_prompts(
            self.backbone,
            options.CTX_INIT,
            (options.N_CTX, options.N_CTX),
            (options.PROMPT_DEPTH_TEXT, options.PROMPT_DEPTH_VISION),
            generator,
        )
        if not options.LOW_RANK:
            return FullRankPrompts(start)
        return LowRankPrompts(
            start,
            options.RANK,
            options.SHARED_UP,
            options.INIT,
            generator,
            per_layer=options.UP_PER_LAYER,
        )

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        options, model = self.options, self.model
        text_prompts, vision_prompts = model.learner()
        embedded = model.embed(images)
        image = model.image_features(embedded, vision_prompts)
        plain_text = model.text_features(text_prompts)
        text = model.correct(plain_text)
        logits = model.logits(image, text)
        terms = {"loss_ce": F.cross_entropy(logits, labels)}
        if options.SCL:
            held = text if options.SCL_AFTER_UDC else plain_text
            weights = Consistency(
                image=options.IMAGE_LOSS_WEIGHT,
                text=options.TEXT_LOSS_WEIGHT,
                logits=options.LOGITS_LOSS_WEIGHT,
            )
            terms.update(consistency_terms(model, embedded, image, held, logits, weights))
        return terms, logits
