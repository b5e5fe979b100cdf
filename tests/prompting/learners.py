"""A model of each kind of prompt learner on the tiny CLIP, with values that are not the initial."""

import torch

from prompting import (
    Context,
    FullRankPrompts,
    LowRankPrompts,
    NoPrompts,
    PromptedCLIP,
    frozen_text_features,
)
from prompting.adapters import AdaptedCLIP, Adapters
from prompting.class_aware import ClassAwarePrompts
from prompting.conditional import ConditionalCLIP, ShiftedContext
from prompting.coupled import CoupledPrompts

NAMES = ["cat", "striped_star", "dog house"]
TEMPLATES = ("a photo of a {}.", "art of a {}.")
WORDS = "a photo of a {}."


def low_rank(backbone, **options):
    sizes = {"depths": (3, 2), "tokens": (4, 4), "widths": (128, 192), "rank": 2, **options}
    return PromptedCLIP(backbone, LowRankPrompts(**sizes), NAMES, WORDS, TEMPLATES, True)


def class_aware(backbone):
    frozen = frozen_text_features(backbone, NAMES, TEMPLATES)
    learner = ClassAwarePrompts(torch.randn(4, 128), 3, frozen, torch.Generator())
    model = PromptedCLIP(backbone, learner, NAMES, "X X X X {}.")
    model.templates = TEMPLATES
    return model


def ensemble(backbone):
    model = PromptedCLIP(backbone, NoPrompts(), NAMES, WORDS)
    model.fix_ensemble(TEMPLATES)
    return model


def adapted(backbone):
    learner = Adapters((128, 192), range(2, 4), 8, 0.5, torch.Generator().manual_seed(0))
    return AdaptedCLIP(backbone, learner, NAMES, WORDS)


def conditional(backbone):
    learner = ShiftedContext(torch.randn(4, 128), 32, torch.Generator().manual_seed(0))
    return ConditionalCLIP(backbone, learner, NAMES, WORDS)


def plain(learner, position="end", template=WORDS):
    return lambda b: PromptedCLIP(b, learner(), NAMES, template, position=position)


def full_rank():
    return FullRankPrompts(torch.randn(3, 4, 128) * 0.1, torch.randn(2, 4, 192) * 0.1)


MODELS = {
    "low rank": low_rank,
    "low rank, a U per tower": lambda b: low_rank(b, shared=False, tokens=(4, 3), depths=(1, 3)),
    "low rank, a U for all layers": lambda b: low_rank(b, per_layer=False),
    "low rank, one for all in each tower": lambda b: low_rank(b, shared=False, per_layer=False),
    "low rank, image tower alone": lambda b: low_rank(b, depths=(0, 3)),
    "context": plain(lambda: Context(torch.randn(4, 128))),
    "context in the middle": plain(lambda: Context(torch.randn(4, 128)), "middle"),
    "context per class": plain(lambda: Context(torch.randn(3, 4, 128))),
    "full rank": plain(full_rank),
    "coupled": plain(lambda: CoupledPrompts(torch.randn(3, 4, 128) * 0.1, 192, torch.Generator())),
    "class-aware": class_aware,
    "conditional": conditional,
    "adapters": adapted,
    "zero-shot": plain(NoPrompts, template="art of a {}."),
    "ensemble": ensemble,
}


def moved(model):
    """The model with other values than those that its constructor draws."""
    with torch.no_grad():
        for parameter in model.prompt_learner.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model
