"""MMLoP: multi-modal low-rank prompting (arXiv 2602.21397, section 3, algorithm 1).

Before training:
    g0_k = normalise(mean over 60 templates of the frozen text features of class k)
    U_l, V_l,t, V_l,v ~ N(0, 0.05^2), for the layers l = 1..J

Each step, for images x with labels y:
    1. prompts         P_l,t = U_l V_l,t     P_l,v = U_l V_l,v                          (Eq. 9)
    2. text            g_k  = text encoder  {SOS, P_t, class k, EOS}, normalised         (Eq. 4)
       image           f    = image encoder {CLS, patches of x, P_v}, normalised
       frozen          f0   = image encoder {CLS, patches of x}, normalised
    3. drift           r_k  = g_k - g0_k     h_k  = normalise(g0_k + r_k - mean_k r_k)   (Eq. 8)
    4. logits          z    = s f h^T        z0   = s f0 g0^T
    5. loss            L    = CE(z, y) + 25 mean |h - g0| + 10 mean |f - f0|
                              + 1/2 KL(z || z0) + 1/2 KL(z0 || z)                     (Eqs. 5 to 7)
    6. U_l, V_l,t, V_l,v by SGD; CLIP is frozen

Evaluation classifies with h, the corrected text features, of the classes at hand. Every part has a
key, so that each row of tables 4, 5 and 7 is a configuration: with LOW_RANK, SCL and UDC off this
is IVLP.
"""

import torch
import torch.nn.functional as F
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor, nn
from yacs.config import CfgNode

from prompting import (
    FullRankPrompts,
    LowRankPrompts,
    PromptedCLIP,
    SCLWeights,
    check_prompt_sizes,
    context_words,
    initial_prompts,
    placeholders,
    tower_widths,
)
from prompting.templates import IMAGENET_TEMPLATES
from trainers.base import PromptTrainer


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.MMLOP; each value is the paper's unless it says otherwise."""
    node = cfg.TRAINER.MMLOP = CfgNode()
    node.N_CTX = 4  # T, prompt tokens of each tower
    node.CTX_INIT = "a photo of a"  # words before the class name (PromptSRC's)
    node.KEEP_TEMPLATE = False  # True: these words stand behind the prompts, as Eq. 4 is written;
    # False: the prompts replace them, as in PromptSRC's code. The paper leaves it open.
    node.PROMPT_DEPTH_TEXT = 9  # J of the text tower
    node.PROMPT_DEPTH_VISION = 9  # J of the image tower
    node.LOW_RANK = True  # P = U V; False: independent prompts (IVLP)
    node.RANK = 1  # r
    node.SHARED_UP = True  # one U for both towers
    node.UP_PER_LAYER = True  # a U for each layer; False, which is ours: one for all
    node.INIT = "normal"  # all factors, U, V_t and V_v, are drawn from N(0, INIT_STD^2)
    node.INIT_STD = 0.05
    node.SCL = True  # self-regulating consistency
    node.TEXT_LOSS_WEIGHT = 25.0
    node.IMAGE_LOSS_WEIGHT = 10.0
    node.LOGITS_LOSS_WEIGHT = 1.0
    node.LOGITS_LOSS = "symmetric_kl"  # or kl, which is PromptSRC's (table 7)
    node.UDC = True  # uniform drift correction
    node.PREC = "auto"  # ours: auto, fp32, tf32, amp, bf16, fp16


@TRAINER_REGISTRY.register()
class MMLoP(PromptTrainer):
    """Trains low-rank prompts in both towers, held to the frozen CLIP."""

    node = "MMLOP"
    training_only = (
        "PREC", "INIT", "INIT_STD", "SCL",
        "TEXT_LOSS_WEIGHT", "IMAGE_LOSS_WEIGHT", "LOGITS_LOSS_WEIGHT", "LOGITS_LOSS",
    )  # fmt: skip
    added_options = {"KEEP_TEMPLATE": False}

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        options = self.options
        replaced = 0 if options.KEEP_TEMPLATE else options.N_CTX
        words = context_words(options.CTX_INIT, replaced, self.backbone.tokenizer)
        if options.KEEP_TEMPLATE:
            words = f"{placeholders(options.N_CTX)} {words}".strip()
        return PromptedCLIP(
            self.backbone,
            self._build_prompt_learner(generator),
            classnames,
            f"{words} {{}}.",
            templates=IMAGENET_TEMPLATES if options.SCL or options.UDC else (),
            drift_correction=options.UDC,
        )

    def _build_prompt_learner(self, generator: torch.Generator) -> nn.Module:
        options = self.options
        tokens = (options.N_CTX, options.N_CTX)
        depths = (options.PROMPT_DEPTH_TEXT, options.PROMPT_DEPTH_VISION)
        if not options.LOW_RANK:
            words = "" if options.KEEP_TEMPLATE else options.CTX_INIT
            initial = initial_prompts(self.backbone, words, tokens, depths, generator)
            return FullRankPrompts(*initial)
        check_prompt_sizes(self.backbone, tokens, depths)
        return LowRankPrompts(
            depths,
            tokens,
            tower_widths(self.backbone),
            options.RANK,
            options.SHARED_UP,
            options.UP_PER_LAYER,
            options.INIT_STD,
            generator,
        )

    def loss_terms(self, images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        options, model = self.options, self.model
        text_prompts, vision_prompts = model.prompt_learner()
        embedded = model.embed(images)
        image = model.image_features(embedded, vision_prompts)
        text = model.correct(model.text_features(text_prompts))
        logits = model.logits(image, text)
        terms = {"loss_ce": F.cross_entropy(logits, labels)}
        if options.SCL:
            weights = SCLWeights(
                image=options.IMAGE_LOSS_WEIGHT,
                text=options.TEXT_LOSS_WEIGHT,
                logits=options.LOGITS_LOSS_WEIGHT,
            )
            scl = model.consistency(embedded, image, text, logits, options.LOGITS_LOSS)
            terms.update(weights.weigh(scl))
        return terms, logits
