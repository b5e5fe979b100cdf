import math

import pytest
import torch
import torch.nn.functional as F

from prompting import consistency, correct_drift, knowledge_guidance


def unit(*shape, seed):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_drift_correction_by_hand():
    text, frozen = unit(5, 7, seed=0), unit(5, 7, seed=1)
    corrected = correct_drift(text, frozen)
    for c in range(5):
        drift = sum(text[k] - frozen[k] for k in range(5)) / 5
        moved = text[c] - drift
        torch.testing.assert_close(corrected[c], moved / moved.norm())


def test_residuals_have_zero_mean_before_renormalising():
    """The class-specific parts are kept up to each vector's length: undo that and look."""
    text, frozen = unit(5, 7, seed=0), unit(5, 7, seed=1)
    corrected = correct_drift(text, frozen)
    lengths = (text - (text - frozen).mean(dim=0)).norm(dim=-1, keepdim=True)
    residuals = corrected * lengths - frozen
    torch.testing.assert_close(residuals.mean(dim=0), torch.zeros(7), rtol=0, atol=1e-6)


def test_a_common_shift_vanishes():
    frozen, shift = unit(6, 8, seed=0), torch.randn(8) * 0.3
    torch.testing.assert_close(correct_drift(frozen + shift, frozen), frozen)


def test_one_class_falls_back_to_its_frozen_feature():
    text, frozen = unit(1, 7, seed=0), unit(1, 7, seed=1)
    torch.testing.assert_close(correct_drift(text, frozen), frozen)


def test_drift_correction_gradient():
    text = unit(4, 5, seed=0).double().requires_grad_()
    frozen = unit(4, 5, seed=1).double()
    assert torch.autograd.gradcheck(lambda t: correct_drift(t, frozen), text)


def test_consistency_by_hand():
    image, frozen_image = unit(3, 6, seed=0), unit(3, 6, seed=1)
    text, frozen_text = unit(4, 6, seed=2), unit(4, 6, seed=3)
    logits, frozen_logits = 10 * image @ text.T, 10 * frozen_image @ frozen_text.T
    terms = consistency(image, frozen_image, text, frozen_text, logits, frozen_logits)

    by_hand = sum(abs(a - b) for a, b in zip(image.flatten(), frozen_image.flatten(), strict=True))
    assert terms.image.item() == pytest.approx(by_hand.item() / 18, rel=1e-5)
    by_hand = sum(abs(a - b) for a, b in zip(text.flatten(), frozen_text.flatten(), strict=True))
    assert terms.text.item() == pytest.approx(by_hand.item() / 24, rel=1e-5)

    divergence = 0.0
    for b in range(3):
        p = [math.exp(v) for v in frozen_logits[b].tolist()]
        q = [math.exp(v) for v in logits[b].tolist()]
        for c in range(4):
            frozen, prompted = p[c] / sum(p), q[c] / sum(q)
            divergence += frozen * (math.log(frozen) - math.log(prompted))
    assert terms.logits.item() == pytest.approx(divergence / 12, rel=1e-4)


def test_consistency_is_zero_for_the_frozen_model():
    image, text = unit(3, 6, seed=0), unit(1, 6, seed=2)
    logits = image @ text.T
    assert [t.item() for t in consistency(image, image, text, text, logits, logits)] == [0, 0, 0]


def test_knowledge_guidance_is_half_the_squared_distance():
    text, frozen = unit(4, 7, seed=0), unit(4, 7, seed=1)
    expected = (text - frozen).square().sum(dim=1).mean() / 2
    torch.testing.assert_close(knowledge_guidance(text, frozen), expected)
    torch.testing.assert_close(knowledge_guidance(text, text), torch.tensor(0.0))
