import clip
import pytest
import torch

from prompting import encode_text, tokenize
from prompting.text_encoder import POSITIONS, encode_texts, move_classnames

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
def test_prompted_features_and_gradients(tiny_clip, assert_exact, depth, count, texts):
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randn((depth, count, 128), generator=generator).requires_grad_()
    weights = torch.randn((len(texts), 32), generator=generator)

    features = encode_text(tiny_clip, tokenize(texts, count), prompts)
    (gradient,) = torch.autograd.grad((features * weights).sum(), prompts)
    expected = torch.stack([reference(tiny_clip, text, prompts) for text in texts])
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), prompts)

    assert_exact(features, expected)
    for got, wanted in zip(gradient, expected_gradient, strict=True):  # layer by layer
        assert_exact(got, wanted)
    assert gradient.abs().amax(dim=(1, 2)).min() > 1e-3  # every layer's prompt has its effect


def plain(model, name, prompts, position="end"):
    """All 77 tokens of one class: {layer: (T, d)} in its slots, the name where CoOp puts it."""
    count = next(iter(prompts.values())).shape[0]
    tokens = clip.tokenize(" ".join(["X"] * count) + f" {name}.")[0]
    length = int(clip.tokenize(name).argmax()) - 1
    before = {"end": count, "middle": count // 2, "front": 0}[position]
    slots = [1 + i if i < before else 1 + i + length for i in range(count)]
    words = [i for i in range(77) if i not in slots]
    order = [0, *range(1 + count, 77)]
    x = torch.empty(77, 128)
    x[words] = model.token_embedding(tokens[order])
    if 0 in prompts:
        x[slots] = prompts[0]
    x = (x + model.positional_embedding)[:, None]
    for layer, block in enumerate(model.transformer.resblocks):
        if layer > 0 and layer in prompts:
            x = x.clone()
            x[slots, 0] = prompts[layer]
        x = block(x)
    return model.ln_final(x)[int(tokens.argmax()), 0] @ model.text_projection


def placed(count, position):
    tokenized = tokenize([" ".join(["X"] * count) + f" {name}." for name in NAMES], count)
    return move_classnames(tokenized, NAMES, position)


@pytest.fixture
def assert_same(assert_exact):
    """Values and gradients of a weighted sum."""

    def check(found, expected, weights, *leaves):
        assert_exact(found, expected)
        got = torch.autograd.grad((found * weights).sum(), leaves)
        wanted = torch.autograd.grad((expected * weights).sum(), leaves)
        for a, b in zip(got, wanted, strict=True):
            assert_exact(a, b)
            assert b.abs().max() > 1e-3

    return check


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("count", [1, 4, 5])
def test_the_class_name_stands_where_coop_puts_it(tiny_clip, assert_same, position, count):
    context, weights = torch.randn(count, 128).requires_grad_(), torch.randn(4, 32)
    found = encode_text(tiny_clip, placed(count, position), (context,))
    expected = torch.stack([plain(tiny_clip, name, {0: context}, position) for name in NAMES])
    assert_same(found, expected, weights, context)


@pytest.mark.parametrize("position", POSITIONS)
def test_a_context_for_each_class(tiny_clip, assert_same, position):
    contexts, weights = torch.randn(4, 3, 128).requires_grad_(), torch.randn(4, 32)
    found = encode_text(tiny_clip, placed(3, position), (contexts,))
    expected = torch.stack(
        [plain(tiny_clip, n, {0: c}, position) for n, c in zip(NAMES, contexts, strict=True)]
    )
    assert_same(found, expected, weights, contexts)


@pytest.mark.parametrize("images", [1, 3])
def test_a_context_for_each_image(tiny_clip, assert_same, images):
    contexts, weights = torch.randn(images, 1, 2, 128).requires_grad_(), torch.randn(images, 4, 32)
    found = encode_text(tiny_clip, placed(2, "end"), (contexts,))
    expected = torch.stack(
        [torch.stack([plain(tiny_clip, name, {0: c[0]}) for name in NAMES]) for c in contexts]
    )
    assert_same(found, expected, weights, contexts)


@pytest.mark.parametrize("position", POSITIONS)
def test_prompts_for_each_class_in_a_deeper_layer(tiny_clip, assert_same, position):
    context, deep = torch.randn(3, 128).requires_grad_(), torch.randn(4, 3, 128).requires_grad_()
    found = encode_text(tiny_clip, placed(3, position), (context, None, deep))
    expected = torch.stack(
        [
            plain(tiny_clip, n, {0: context, 2: p}, position)
            for n, p in zip(NAMES, deep, strict=True)
        ]
    )
    assert_same(found, expected, torch.randn(4, 32), context, deep)


def test_an_adapter_sees_the_normalised_input_of_its_layer(tiny_clip, assert_same):
    weight, tokenized = torch.randn(128, 128).requires_grad_(), tokenize(TEXTS)
    found = encode_text(tiny_clip, tokenized, (), (None, lambda x: (x @ weight).tanh()))
    x = tiny_clip.token_embedding(clip.tokenize(TEXTS)) + tiny_clip.positional_embedding
    x = x.permute(1, 0, 2)
    for layer, block in enumerate(tiny_clip.transformer.resblocks):
        x = block(x) + ((block.ln_1(x) @ weight).tanh() if layer == 1 else 0)
    rows = clip.tokenize(TEXTS).argmax(dim=1)
    expected = tiny_clip.ln_final(x)[rows, range(4)] @ tiny_clip.text_projection
    assert_same(found, expected, torch.randn(4, 32), weight)


def test_a_class_named_like_a_placeholder_shares_no_slot(tiny_clip):
    """In front of the context "x" is a name's token in one class and a slot's in no other."""
    names, context = ["x", "x cat"], torch.randn(2, 128)
    tokenized = move_classnames(tokenize([f"X X {name}." for name in names], 2), names, "front")
    expected = torch.stack([plain(tiny_clip, name, {0: context}, "front") for name in names])
    torch.testing.assert_close(encode_text(tiny_clip, tokenized, (context,)), expected)


def test_an_unknown_position():
    with pytest.raises(ValueError, match='position is "back": choose end, middle, front'):
        move_classnames(tokenize(TEXTS, 1), NAMES, "back")


def test_context_longer_than_the_prompt_keeps_its_words(tiny_clip):
    """With two prompt tokens in "a photo of a", "of a" stays, and is shared too."""
    prompts = torch.randn(2, 2, 128)
    tokenized = tokenize(TEXTS, 2)
    assert tokenized.prefix == 5
    expected = torch.stack([reference(tiny_clip, text, prompts) for text in TEXTS])
    torch.testing.assert_close(encode_text(tiny_clip, tokenized, prompts), expected)


def test_a_prompt_counts_as_shared_whatever_it_replaces(tiny_clip):
    prompts = torch.randn(2, 2, 128)
    texts = ["one two cat.", "three four dog."]
    tokenized = tokenize(texts, 2)
    assert tokenized.prefix == 3
    expected = torch.stack([reference(tiny_clip, text, prompts) for text in texts])
    torch.testing.assert_close(encode_text(tiny_clip, tokenized, prompts), expected)


def test_sentences_are_cut_behind_the_longest():
    tokenized = tokenize(TEXTS, 4)
    assert tokenized.tokens.shape == (4, int(tokenized.end.max()) + 1)
    assert tokenized.tokens.shape[1] < 20


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
