import math

import pytest
import torch
import torch.nn.functional as F

from prompting import (
    ArgumentError,
    SCLWeights,
    knowledge_guidance,
    self_regulating_consistency,
    uniform_drift_correction,
)


def unit(*shape, seed):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_drift_correction_by_hand():
    text, frozen = unit(5, 7, seed=0), unit(5, 7, seed=1)
    corrected = uniform_drift_correction(text, frozen)
    for c in range(5):
        drift = sum(text[k] - frozen[k] for k in range(5)) / 5
        moved = text[c] - drift
        torch.testing.assert_close(corrected[c], moved / moved.norm())


def test_residuals_have_zero_mean_before_renormalising():
    """The class-specific parts are kept up to each vector's length: undo that and look."""
    text, frozen = unit(5, 7, seed=0), unit(5, 7, seed=1)
    corrected = uniform_drift_correction(text, frozen)
    lengths = (text - (text - frozen).mean(dim=0)).norm(dim=-1, keepdim=True)
    residuals = corrected * lengths - frozen
    torch.testing.assert_close(residuals.mean(dim=0), torch.zeros(7), rtol=0, atol=1e-6)


def test_a_common_shift_vanishes():
    frozen, shift = unit(6, 8, seed=0), torch.randn(8) * 0.3
    torch.testing.assert_close(uniform_drift_correction(frozen + shift, frozen), frozen)


def test_one_class_falls_back_to_its_frozen_feature():
    text, frozen = unit(1, 7, seed=0), unit(1, 7, seed=1)
    torch.testing.assert_close(uniform_drift_correction(text, frozen), frozen)


def test_drift_correction_gradient():
    text = unit(4, 5, seed=0).double().requires_grad_()
    frozen = unit(4, 5, seed=1).double()
    assert torch.autograd.gradcheck(lambda t: uniform_drift_correction(t, frozen), text)


def divergence(p, q):
    """KL(p || q) of two rows of logits, in plain numbers."""
    p, q = ([math.exp(v) for v in row] for row in (p.tolist(), q.tolist()))
    return sum(
        a / sum(p) * (math.log(a / sum(p)) - math.log(b / sum(q)))
        for a, b in zip(p, q, strict=True)
    )


@pytest.mark.parametrize("kind", ["symmetric_kl", "kl"])
def test_consistency_by_hand(kind):
    image, frozen_image = unit(3, 6, seed=0), unit(3, 6, seed=1)
    text, frozen_text = unit(4, 6, seed=2), unit(4, 6, seed=3)
    logits, frozen_logits = 10 * image @ text.T, 10 * frozen_image @ frozen_text.T
    features = (image, frozen_image, text, frozen_text)
    terms = self_regulating_consistency(*features, logits, frozen_logits, kind)

    by_hand = sum(abs(a - b) for a, b in zip(image.flatten(), frozen_image.flatten(), strict=True))
    assert terms.image.item() == pytest.approx(by_hand.item() / 18, rel=1e-5)
    by_hand = sum(abs(a - b) for a, b in zip(text.flatten(), frozen_text.flatten(), strict=True))
    assert terms.text.item() == pytest.approx(by_hand.item() / 24, rel=1e-5)

    by_hand = sum(map(divergence, frozen_logits, logits))
    if kind == "symmetric_kl":
        by_hand = by_hand / 2 + sum(map(divergence, logits, frozen_logits)) / 2
    assert terms.logits.item() == pytest.approx(by_hand / 12, rel=1e-4)


def test_symmetric_divergence_is_symmetric_and_the_default():
    image, text, logits, other = unit(3, 6, seed=0), unit(4, 6, seed=2), *torch.randn(2, 3, 4)
    same = (image, image, text, text)
    one, back = (
        self_regulating_consistency(*same, *pair) for pair in ((logits, other), (other, logits))
    )
    torch.testing.assert_close(one.logits, back.logits)
    one, back = (
        self_regulating_consistency(*same, *pair, "kl")
        for pair in ((logits, other), (other, logits))
    )
    assert (one.logits - back.logits).abs() > 1e-3


@pytest.mark.parametrize("kind", ["symmetric_kl", "kl"])
def test_consistency_gradient(kind):
    image, frozen_image = unit(3, 5, seed=0).double(), unit(3, 5, seed=1).double()
    text, frozen_text = unit(4, 5, seed=2).double(), unit(4, 5, seed=3).double()
    frozen_logits = 3 * frozen_image @ frozen_text.T

    def loss(image, text):
        logits = 3 * image @ text.T
        features = (image, frozen_image, text, frozen_text)
        return sum(self_regulating_consistency(*features, logits, frozen_logits, kind))

    assert torch.autograd.gradcheck(loss, (image.requires_grad_(), text.requires_grad_()))


def test_consistency_is_zero_for_the_frozen_model():
    image, text = unit(3, 6, seed=0), unit(1, 6, seed=2)
    logits = image @ text.T
    terms = self_regulating_consistency(image, image, text, text, logits, logits)
    assert [t.item() for t in terms] == [0, 0, 0]


def test_unknown_logits_loss():
    image, text, logits = unit(3, 6, seed=0), unit(4, 6, seed=2), torch.zeros(3, 4)
    with pytest.raises(ArgumentError, match='logits_loss is "l2": choose symmetric_kl or kl'):
        self_regulating_consistency(image, image, text, text, logits, logits, "l2")


def test_default_weights_are_the_paper_s():
    assert SCLWeights() == (10, 25, 1) and SCLWeights._fields == ("image", "text", "logits")


def test_knowledge_guidance_is_half_the_squared_distance():
    text, frozen = unit(4, 7, seed=0), unit(4, 7, seed=1)
    expected = (text - frozen).square().sum(dim=1).mean() / 2
    torch.testing.assert_close(knowledge_guidance(text, frozen), expected)
    torch.testing.assert_close(knowledge_guidance(text, text), torch.tensor(0.0))
