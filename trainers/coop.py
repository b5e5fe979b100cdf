"""CoOp: the words in front of the class name are trained (arXiv 2109.01134)."""

from collections.abc import Mapping

import torch
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor
from yacs.config import CfgNode

from prompting import Context, PromptedCLIP, initial_context
from prompting.templates import template_for
from trainers.base import PromptTrainer

WORDS = "a photo of a"


def add_config(cfg: CfgNode) -> None:
    """Add the node TRAINER.COOP, shared by CoOp, KgCoOp, ProGrad and TCP as in their code bases."""
    node = cfg.TRAINER.COOP = CfgNode()
    node.N_CTX = 16  # context tokens, where they are random at first
    node.CSC = False  # a context for each class
    node.CTX_INIT = ""  # words to begin with, which then set N_CTX; "True": "a photo of a"
    node.CLASS_TOKEN_POSITION = "end"  # end, middle, front
    node.W = 8.0  # weight of KgCoOp's guidance
    node.TEMPLATE = ""  # of KgCoOp, ProGrad and TCP (ours): as TRAINER.ZSCLIP.TEMPLATE
    node.ALPHA = 1.0  # accepted for compatibility, as KgCoOp's files may set it; without effect
    node.PREC = "auto"  # auto, fp32, tf32, amp, bf16, fp16 (upstream's own default is fp16)


def context_init(ctx_init: str) -> str:
    """Return the words of a CTX_INIT, where KgCoOp's and ProGrad's files say True or False."""
    words = {"True": WORDS, "False": ""}.get(ctx_init, ctx_init)
    return words.replace("_", " ").strip()


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Trains one context for all classes, or one per class, by cross entropy."""

    node = "COOP"
    training_only = ("PREC", "W", "ALPHA", "TEMPLATE")
    added_options = {"TEMPLATE": ""}
    templates: Mapping[str, str] = {}  # the method's own of data sets, see `template`

    @property
    def per_class(self) -> str:
        return "a context" if self.options.CSC else ""

    def build_clip(self, classnames: list[str], generator: torch.Generator) -> PromptedCLIP:
        words, context = self.initial_context(len(classnames), generator)
        return PromptedCLIP(
            self.backbone,
            Context(context),
            classnames,
            words + " {}.",
            templates=self.frozen_templates(),
            position=self.options.CLASS_TOKEN_POSITION,
        )

    def initial_context(self, classes: int, generator: torch.Generator) -> tuple[str, Tensor]:
        """Return the words that hold the context's place, and the context (T, d) or (C, T, d)."""
        options = self.options
        words = context_init(options.CTX_INIT)
        return initial_context(
            self.backbone, words, options.N_CTX, generator, classes if options.CSC else None
        )

    def frozen_templates(self) -> tuple[str, ...]:
        """Return the templates of the frozen text features, of methods that hold on to these."""
        return ()

    def template(self) -> str:
        """Return the hand-written template: TRAINER.COOP.TEMPLATE, or the method's own."""
        return self.options.TEMPLATE or template_for(self.cfg.DATASET.NAME, self.templates)
