"""Losses and corrections on features as pure functions: MMLoP's two, and those of its rivals.

Letters: B images, C classes, D joint width. All features are normalised.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from prompting.errors import ArgumentError

LOGITS_LOSSES = ("symmetric_kl", "kl")


class SCLTerms(NamedTuple):
    """The three terms of self-regulating consistency, scalars, not weighted."""

    image: Tensor
    text: Tensor
    logits: Tensor


class SCLWeights(NamedTuple):
    """Weights of the three terms; by default the paper's (and PromptSRC's)."""

    image: float = 10.0
    text: float = 25.0
    logits: float = 1.0

    def weigh(self, terms: SCLTerms) -> dict[str, Tensor]:
        """Return the weighted terms by name: loss_image, loss_text, loss_logits."""
        names = (f"loss_{name}" for name in terms._fields)
        return {name: weight * term for name, weight, term in zip(names, self, terms, strict=True)}


def uniform_drift_correction(text: Tensor, frozen_text: Tensor) -> Tensor:
    """Take off what all classes moved by in common (MMLoP, arXiv 2602.21397, Eq. 8).

        r_k = g_k - g0_k,    h_k = normalise(g0_k + r_k - mean_k r_k)

    The mean runs over the C classes at hand. Of a single class all movement is common, and the
    result is its frozen feature.

    Args:
        text: prompted features g (C, D).
        frozen_text: features of the frozen CLIP g0 (C, D).
    """
    drift = (text - frozen_text).mean(dim=0)
    return F.normalize(text - drift, dim=-1)


def self_regulating_consistency(
    image: Tensor,
    frozen_image: Tensor,
    text: Tensor,
    frozen_text: Tensor,
    logits: Tensor,
    frozen_logits: Tensor,
    logits_loss: str = "symmetric_kl",
) -> SCLTerms:
    """Return how far the prompted CLIP is from the frozen one (MMLoP, Eqs. 5 to 7; PromptSRC).

        image   mean |f - f0|       text   mean |g - g0|       over all elements
        logits  symmetric_kl: 1/2 KL(prompted || frozen) + 1/2 KL(frozen || prompted)   (MMLoP)
                kl:           KL(frozen || prompted)                                    (PromptSRC)

    Divergences are at temperature 1, summed and divided by B C, as in PromptSRC's code.

    Args:
        image, frozen_image: (B, D).
        text, frozen_text: (C, D); for MMLoP the drift-corrected text features.
        logits, frozen_logits: (B, C), scaled.
        logits_loss: one of LOGITS_LOSSES.

    Raises:
        ArgumentError: another `logits_loss`.
    """
    if logits_loss not in LOGITS_LOSSES:
        raise ArgumentError(
            "logits_loss", f'is "{logits_loss}": choose {" or ".join(LOGITS_LOSSES)}.'
        )
    # Not F.kl_div, for which torch.func.vmap has no rule: it would go seed by seed.
    log_p, log_q = logits.log_softmax(dim=1), frozen_logits.log_softmax(dim=1)
    weight = log_q.exp()
    if logits_loss == "symmetric_kl":
        weight = 0.5 * (weight - log_p.exp())
    return SCLTerms(
        image=F.l1_loss(image, frozen_image),
        text=F.l1_loss(text, frozen_text),
        logits=(weight * (log_q - log_p)).sum() / logits.numel(),
    )


def knowledge_guidance(text: Tensor, frozen_text: Tensor) -> Tensor:
    """Return the distance to the frozen text features, 1 - mean_c cos(g_c, g0_c) (KgCoOp).

    The paper writes the mean squared Euclidean distance, which for normalised features is twice
    this; the published code, whose weight of 8 everybody uses, has this.

    Args:
        text, frozen_text: (C, D).
    """
    return 1 - F.cosine_similarity(text, frozen_text, dim=-1).mean()
