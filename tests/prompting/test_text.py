import clip
import pytest
import torch

from prompting import encode_text, tokenize
from prompting.text import encode_texts

NAMES = ["cat", "striped red star", "yellow-bellied sapsucker", "x"]
TEXTS = [f"a photo of a {name}." for name in NAMES]


def reference(model, text, prompts):
    """All 77 tokens, one class at a time, through CLIP's own blocks."""
    tokens = clip.tokenize(text)
    depth, count, _ = prompts.shape
    x = model.token_embedding(tokens)
    x = torch.cat([x[:, :1], prompts[:1], x[:, 1 + count :]], dim=1) + model.positional_embedding
    x = x.permute(1, 0, 2)
    for layer, block in enumerate(model.transformer.resblocks):
        if 0 < layer < depth:
            x = torch.cat([x[:1], prompts[layer].unsqueeze(1), x[1 + count :]], dim=0)
        x = block(x)
    x = model.ln_final(x.permute(1, 0, 2))
    return x[0, tokens[0].argmax()] @ model.text_projection


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], ["cat", "dog"], [TEXTS[0], TEXTS[0]]])
def test_depth_zero_is_clip(tiny_clip, texts):
    expected = tiny_clip.encode_text(clip.tokenize(texts))
    torch.testing.assert_close(encode_text(tiny_clip, tokenize(texts)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]])
def test_prompted_features_and_gradients(tiny_clip, depth, count, texts):
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randn((depth, count, 128), generator=generator).requires_grad_()
    weights = torch.randn((len(texts), 32), generator=generator)

    features = encode_text(tiny_clip, tokenize(texts, count), prompts)
    (gradient,) = torch.autograd.grad((features * weights).sum(), prompts)
    expected = torch.stack([reference(tiny_clip, text, prompts) for text in texts])
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), prompts)

    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)
    assert gradient.abs().amax(dim=(1, 2)).min() > 1e-3  # every layer's prompt has its effect


def test_context_longer_than_the_prompt_keeps_its_words(tiny_clip):
    """With two prompt tokens in "a photo of a", "of a" stays, and is shared too."""
    prompts = torch.randn(2, 2, 128)
    sentences = tokenize(TEXTS, 2)
    assert sentences.shared == 5
    expected = torch.stack([reference(tiny_clip, text, prompts) for text in TEXTS])
    torch.testing.assert_close(encode_text(tiny_clip, sentences, prompts), expected)


def test_a_prompt_counts_as_shared_whatever_it_replaces(tiny_clip):
    prompts = torch.randn(2, 2, 128)
    texts = ["one two cat.", "three four dog."]
    sentences = tokenize(texts, 2)
    assert sentences.shared == 3
    expected = torch.stack([reference(tiny_clip, text, prompts) for text in texts])
    torch.testing.assert_close(encode_text(tiny_clip, sentences, prompts), expected)


def test_sentences_are_cut_behind_the_longest():
    sentences = tokenize(TEXTS, 4)
    assert sentences.tokens.shape == (4, int(sentences.end.max()) + 1)
    assert sentences.tokens.shape[1] < 20


def test_chunks_change_nothing(tiny_clip):
    expected = tiny_clip.encode_text(clip.tokenize(TEXTS))
    torch.testing.assert_close(encode_texts(tiny_clip, TEXTS, chunk=3), expected)


@pytest.mark.parametrize("length", [75, 76, 600])
def test_a_sentence_fits_in_75_tokens(length):
    text = " ".join(["dog"] * length)
    if length <= 75:
        assert int(tokenize([text]).end) == 76
        return
    with pytest.raises(ValueError, match=r"tokens, and CLIP takes 75: shorten the context"):
        tokenize([text])


def test_too_short_for_the_prompt():
    with pytest.raises(ValueError, match="has 2 tokens, fewer than the prompt's 4"):
        tokenize(["cat."], prompt=4)


def test_no_text():
    with pytest.raises(ValueError, match="list of class names is empty"):
        tokenize([])
