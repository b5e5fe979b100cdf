import pytest
import torch
from clip.model import CLIP

from prompting import (
    ArgumentError,
    Backbone,
    FullRankPrompts,
    LowRankPrompts,
    tower_widths,
)

VIT_B_16 = {"depths": (9, 9), "tokens": (4, 4), "widths": (512, 768)}


def generator():
    return torch.Generator().manual_seed(3)


def low_rank(rank=1, depths=(3, 3), tokens=(4, 4), widths=(64, 128), **options):
    return LowRankPrompts(depths, tokens, widths, rank, generator=generator(), **options)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_at_vit_b_16_shapes():
    """T = 4, widths 512 and 768, J = 9 and 3: the paper's, and what it is compared with."""
    assert count(low_rank(**VIT_B_16)) == 11_556
    assert count(low_rank(**{**VIT_B_16, "depths": (3, 3)})) == 3_852
    assert count(low_rank(**VIT_B_16, shared=False)) == 11_592
    assert count(low_rank(**VIT_B_16, per_layer=False)) == 11_524
    assert count(low_rank(rank=2, **VIT_B_16)) == 2 * 11_556
    independent = FullRankPrompts(torch.zeros(9, 4, 512), torch.zeros(9, 4, 768))
    assert count(independent) == 46_080


@pytest.mark.parametrize("patch", [16, 32])
def test_parameter_counts_follow_from_the_towers(patch):
    """ViT-B/32, of table 6, has the widths of ViT-B/16: only its patches are larger."""
    with torch.device("meta"):  # shapes without memory
        model = CLIP(512, 224, 12, 768, patch, 77, 49408, 512, 8, 12)
    backbone = Backbone(model, f"ViT-B/{patch}", "", "fp32", torch.device("meta"))
    for depth, expected in ((9, 11_556), (3, 3_852)):
        module = low_rank(depths=(depth, depth), widths=tower_widths(backbone))
        assert count(module) == expected


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_prompts_are_products_of_the_factors(shared, rank):
    module = low_rank(rank, shared=shared)
    text, vision = module()
    ups = (module.up, module.up) if shared else (module.text_up, module.vision_up)
    for layer in range(3):
        for position in range(4):
            for prompts, up, down in (
                (text, ups[0], module.text_down),
                (vision, ups[1], module.vision_down),
            ):
                by_hand = sum(up[layer, position, k] * down[layer, k] for k in range(rank))
                torch.testing.assert_close(prompts[layer, position], by_hand)
    assert torch.linalg.matrix_rank(text).max() <= rank
    names = {"up"} if shared else {"text_up", "vision_up"}
    assert {n for n, _ in module.named_parameters()} == names | {"text_down", "vision_down"}


@pytest.mark.parametrize("shared", [True, False])
def test_one_up_projection_for_all_layers(shared):
    module = low_rank(shared=shared, per_layer=False)
    text, _ = module()
    up = module.up if shared else module.text_up
    assert up.shape == (1, 4, 1)
    for layer in range(3):
        torch.testing.assert_close(text[layer], up[0] @ module.text_down[layer])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("std", [0.05, 0.2])
def test_every_factor_of_every_layer_has_the_standard_deviation(shared, std):
    """The paper's initialisation: N(0, 0.05^2) for U, V_t and V_v alike, in all layers.

    With n draws the standard error of a standard deviation is std / sqrt(2 n): five of these.
    """
    module = low_rank(
        rank=64, depths=(9, 9), tokens=(64, 64), widths=(512, 768), std=std, shared=shared
    )
    for name, factor in module.named_parameters():
        for layer in factor.detach():
            error = 5 * std / (2 * layer.numel()) ** 0.5
            assert layer.std().item() == pytest.approx(std, abs=error), name
            assert layer.mean().item() == pytest.approx(0, abs=5 * std / layer.numel() ** 0.5)


def test_the_standard_deviation_is_the_paper_s():
    module = LowRankPrompts((9, 9), (64, 64), (512, 768), 64)
    for name, factor in module.named_parameters():
        assert factor.std().item() == pytest.approx(0.05, rel=0.02), name
    text, _ = LowRankPrompts((9, 9), (64, 64), (512, 768), 1)()
    assert text.std().item() == pytest.approx(0.0025, rel=0.3)


def test_the_same_seed_draws_the_same_factors():
    one, again = low_rank(), low_rank()
    other = LowRankPrompts((3, 3), (4, 4), (64, 128), 1, generator=torch.Generator().manual_seed(4))
    for name, factor in one.named_parameters():
        assert torch.equal(factor, again.get_parameter(name))
        assert not torch.equal(factor, other.get_parameter(name))


@pytest.mark.parametrize("depths", [(3, 1), (1, 3), (0, 2), (2, 0)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("per_layer", [True, False])
def test_towers_of_different_depth(depths, shared, per_layer):
    text, vision = low_rank(depths=depths, shared=shared, per_layer=per_layer)()
    assert (len(text), len(vision)) == depths
    assert text.shape[1:] == (4, 64) and vision.shape[1:] == (4, 128)


@pytest.mark.parametrize("rank", [0, -1, 5])
def test_rank_is_refused_outside_its_range(rank):
    message = rf"rank is {rank}: it must be between 1 and min\(T, width\) = 4"
    with pytest.raises(ArgumentError, match=message):
        low_rank(rank)


def test_a_shared_up_projection_needs_one_number_of_tokens():
    with pytest.raises(ArgumentError, match="shared is True, and needs the same .* got 4 and 2"):
        low_rank(tokens=(4, 2))
    text, vision = low_rank(tokens=(4, 2), shared=False)()
    assert (text.shape[1], vision.shape[1]) == (4, 2)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_standard_deviation_is_above_zero(std):
    with pytest.raises(ArgumentError, match="std is .* must be above 0"):
        low_rank(std=std)
