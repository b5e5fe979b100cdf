import pytest
import torch

from prompting import FullRankPrompts, LowRankPrompts, PromptStart, context_text, initial_prompts
from prompting.prompts import INITS


def generator():
    return torch.Generator().manual_seed(3)


def start(depths=(3, 3), tokens=(4, 4), widths=(64, 128)):
    g = generator()
    text, vision = (
        torch.randn((j, t, d), generator=g) for j, t, d in zip(depths, tokens, widths, strict=True)
    )
    return PromptStart(text, vision)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_at_vit_b_16_shapes():
    """T = 4, J = 9, widths 512 and 768: the paper's 11.5K, and what it is compared with."""
    at = start((9, 9), (4, 4), (512, 768))
    assert count(LowRankPrompts(at, 1, True, "svd", generator())) == 11_556
    assert count(LowRankPrompts(at, 1, False, "svd", generator())) == 11_592
    assert count(LowRankPrompts(at, 1, True, "svd", generator(), per_layer=False)) == 11_524
    assert count(FullRankPrompts(at)) == 46_080


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_prompts_are_products_of_the_factors(init, shared, rank):
    learner = LowRankPrompts(start(), rank, shared, init, generator())
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(torch.randn_like(parameter))
    text, vision = learner()
    ups = (learner.up, learner.up) if shared else (learner.text_up, learner.vision_up)
    for layer in range(3):
        for position in range(4):
            by_hand = sum(
                ups[0][layer, position, k] * learner.text_down[layer, k] for k in range(rank)
            )
            torch.testing.assert_close(text[layer, position], by_hand)
            by_hand = sum(
                ups[1][layer, position, k] * learner.vision_down[layer, k] for k in range(rank)
            )
            torch.testing.assert_close(vision[layer, position], by_hand)
    assert torch.linalg.matrix_rank(text).max() <= rank
    assert {name: p.dtype for name, p in learner.named_parameters()}.keys() == (
        {"up", "text_down", "vision_down"}
        if shared
        else {"text_up", "text_down", "vision_up", "vision_down"}
    )


@pytest.mark.parametrize("shared", [True, False])
def test_one_up_projection_for_all_layers(shared):
    """Layers that are multiples of one pattern of positions have an exact common U."""
    pattern = torch.randn(1, 4, 1)
    begin = PromptStart(pattern @ torch.randn(3, 1, 64), pattern @ torch.randn(2, 1, 128))
    learner = LowRankPrompts(begin, 1, shared, "svd", generator(), per_layer=False)
    text, vision = learner()
    torch.testing.assert_close(text, begin.text)
    torch.testing.assert_close(vision, begin.vision)
    ups = [learner.up] if shared else [learner.text_up, learner.vision_up]
    assert all(up.shape == (1, 4, 1) for up in ups)


@pytest.mark.parametrize("shared", [True, False])
def test_svd_start_at_full_rank_is_the_full_rank_start(shared):
    begin = start()
    text, vision = LowRankPrompts(begin, 4, shared, "svd", generator())()
    torch.testing.assert_close(text, begin.text, rtol=0, atol=1e-4)
    torch.testing.assert_close(vision, begin.vision, rtol=0, atol=1e-4)


def test_shared_svd_start_is_the_best_of_both_towers_together():
    begin = start()
    text, vision = LowRankPrompts(begin, 2, True, "svd", generator())()
    both = torch.cat([begin.text, begin.vision], dim=-1)
    error = (torch.cat([text, vision], dim=-1) - both).square().sum(dim=(1, 2))
    dropped = torch.linalg.svdvals(both)[:, 2:].square().sum(dim=1)
    torch.testing.assert_close(error, dropped)


def test_zero_start_is_zero_and_learns():
    learner = LowRankPrompts(start(), 1, True, "zero", generator())
    text, vision = learner()
    assert not text.any() and not vision.any()
    (text.sum() + vision.sum()).backward()
    assert learner.text_down.grad.any() and learner.vision_down.grad.any()


def test_normal_start_has_the_noise_s_scale():
    learner = LowRankPrompts(start((9, 9), (4, 4), (512, 768)), 4, True, "normal", generator())
    text, vision = learner()
    assert text.std().item() == pytest.approx(0.02, rel=0.2)
    assert vision.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("depths", [(3, 1), (1, 3), (0, 2), (2, 0)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("per_layer", [True, False])
def test_towers_of_different_depth(depths, shared, per_layer):
    learner = LowRankPrompts(start(depths), 1, shared, "svd", generator(), per_layer)
    text, vision = learner()
    assert (len(text), len(vision)) == depths


def test_nothing_to_learn(tiny_backbone):
    with pytest.raises(ValueError, match="PROMPT_DEPTH is 0 in both towers"):
        initial_prompts(tiny_backbone, "a photo of a", (4, 4), (0, 0), generator())


@pytest.mark.parametrize("rank", [0, -1, 5])
def test_rank_is_refused_outside_its_range(rank):
    message = rf"RANK is {rank}: it must be between 1 and min\(N_CTX, width\) = 4"
    with pytest.raises(ValueError, match=message):
        LowRankPrompts(start(), rank, True, "svd", generator())


def test_shared_needs_one_number_of_tokens():
    with pytest.raises(ValueError, match="same N_CTX in both towers, got 4 and 2"):
        LowRankPrompts(start(tokens=(4, 2)), 1, True, "svd", generator())


def test_unknown_start():
    with pytest.raises(ValueError, match='INIT "xavier" is unknown: choose svd, normal, zero'):
        LowRankPrompts(start(), 1, True, "xavier", generator())


def test_initial_prompts_are_the_words_and_noise(tiny_backbone, tiny_clip):
    import clip

    begin = initial_prompts(tiny_backbone, "a photo of a", (4, 2), (3, 4), generator())
    words = tiny_clip.token_embedding(clip.tokenize("a photo of a"))[0, 1:5]
    torch.testing.assert_close(begin.text[0], words)
    assert begin.text.shape == (3, 4, 128) and begin.vision.shape == (4, 2, 192)
    for noise in (begin.text[1:], begin.vision):
        assert noise.std().item() == pytest.approx(0.02, rel=0.1)
    again = initial_prompts(tiny_backbone, "a photo of a", (4, 2), (3, 4), generator())
    assert torch.equal(begin.text, again.text) and torch.equal(begin.vision, again.vision)


@pytest.mark.parametrize("depths", [(5, 1), (1, 5), (-1, 1)])
def test_depth_beyond_the_tower(tiny_backbone, depths):
    message = "PROMPT_DEPTH for the .* tower is .*: this backbone takes 0 to 4"
    with pytest.raises(ValueError, match=message):
        initial_prompts(tiny_backbone, "a photo of a", (4, 4), depths, generator())


def test_no_prompt_tokens(tiny_backbone):
    with pytest.raises(ValueError, match="N_CTX for the text tower is 0: it must be at least 1"):
        initial_prompts(tiny_backbone, "", (0, 4), (1, 1), generator())


def test_context_text():
    assert context_text("a_photo_of_a", 4) == "a photo of a"
    assert context_text("a photo of a", 2) == "a photo of a"
    assert context_text("", 3) == "X X X"
    with pytest.raises(ValueError, match='"a photo" has 2 tokens, fewer than the N_CTX of 4'):
        context_text("a photo", 4)
