import pytest
import torch

from prompting import ArgumentError, context_words, initial_prompts


def generator():
    return torch.Generator().manual_seed(3)


def test_nothing_to_train(tiny_backbone):
    with pytest.raises(ArgumentError, match="text_depth is 0 in both towers: there is nothing"):
        initial_prompts(tiny_backbone, "a photo of a", (4, 4), (0, 0), generator())


def test_initial_prompts_are_the_words_and_noise(tiny_backbone, tiny_clip):
    import clip

    text, vision = initial_prompts(tiny_backbone, "a photo of a", (4, 2), (3, 4), generator())
    words = tiny_clip.token_embedding(clip.tokenize("a photo of a"))[0, 1:5]
    torch.testing.assert_close(text[0], words)
    assert text.shape == (3, 4, 128) and vision.shape == (4, 2, 192)
    for noise in (text[1:], vision):
        assert noise.std().item() == pytest.approx(0.02, rel=0.1)
    again = initial_prompts(tiny_backbone, "a photo of a", (4, 2), (3, 4), generator())
    assert torch.equal(text, again[0]) and torch.equal(vision, again[1])


@pytest.mark.parametrize("depths", [(5, 1), (1, 5), (-1, 1)])
def test_depth_beyond_the_tower(tiny_backbone, depths):
    message = "_depth is .*: the (text|vision) tower of this backbone takes 0 to 4"
    with pytest.raises(ArgumentError, match=message):
        initial_prompts(tiny_backbone, "a photo of a", (4, 4), depths, generator())


def test_no_prompt_tokens(tiny_backbone):
    with pytest.raises(ArgumentError, match="text_tokens is 0: it must be at least 1"):
        initial_prompts(tiny_backbone, "", (0, 4), (1, 1), generator())


def test_context_text():
    assert context_words("a_photo_of_a", 4) == "a photo of a"
    assert context_words("a photo of a", 2) == "a photo of a"
    assert context_words("", 3) == "X X X"
    message = 'context "a photo" has 2 tokens, fewer than the 4 prompt tokens'
    with pytest.raises(ArgumentError, match=message):
        context_words("a photo", 4)
