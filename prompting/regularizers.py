"""Regularisers as pure functions: MMLoP's two, and those of the methods it is compared with.

Letters: B images, C classes, D joint width. All features are normalised.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Consistency(NamedTuple):
    """The three terms of self-regulating consistency, scalars, not weighted."""

    image: Tensor
    text: Tensor
    logits: Tensor


def correct_drift(text: Tensor, frozen_text: Tensor) -> Tensor:
    """Uniform drift correction (MMLoP, arXiv 2602.21397).

        d_c = g_c - g0_c,   d = mean over the classes of d_c,   g~_c = normalise(g_c - d)

    What all classes moved by in common is taken off, so that only what sets a class apart remains.
    The mean runs over the class set being classified. Of a single class all movement is common, and
    the result is its frozen feature.

    Args:
        text: prompted features g (C, D).
        frozen_text: features of the frozen CLIP g0 (C, D).
    """
    drift = (text - frozen_text).mean(dim=0)
    return F.normalize(text - drift, dim=-1)


def consistency(
    image: Tensor,
    frozen_image: Tensor,
    text: Tensor,
    frozen_text: Tensor,
    logits: Tensor,
    frozen_logits: Tensor,
) -> Consistency:
    """Self-regulating consistency with the frozen CLIP (PromptSRC, as its code has it).

        image   mean |f - f0|          text   mean |g - g0|          over all elements
        logits  KL(frozen || prompted) at temperature 1, summed and divided by B C

    Args:
        image, frozen_image: (B, D).
        text, frozen_text: (C, D).
        logits, frozen_logits: (B, C), scaled.
    """
    # Not F.kl_div, for which torch.func.vmap has no rule: it would go seed by seed.
    frozen_log = frozen_logits.log_softmax(dim=1)
    divergence = (frozen_log.exp() * (frozen_log - logits.log_softmax(dim=1))).sum()
    return Consistency(
        image=F.l1_loss(image, frozen_image),
        text=F.l1_loss(text, frozen_text),
        logits=divergence / logits.numel(),
    )


def knowledge_guidance(text: Tensor, frozen_text: Tensor) -> Tensor:
    """Distance to the frozen text features, 1 - mean over the classes of cos(g_c, g0_c) (KgCoOp).

    The paper writes the mean squared Euclidean distance, which for normalised features is twice
    this; the published code, whose weight of 8 everybody uses, has this.

    Args:
        text, frozen_text: (C, D).
    """
    return 1 - F.cosine_similarity(text, frozen_text, dim=-1).mean()
