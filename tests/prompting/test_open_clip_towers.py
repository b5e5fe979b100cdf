"""open_clip's towers against their own forward passes, and against plain loops with prompts."""

import clip
import pytest
import torch

from prompting import encode_image, encode_text, encode_texts, require_transformer, tokenize
from prompting.image_encoder import embed_image
from tests.open_clip_worlds import CONFIGS, KINDS

NAMES = ["cat", "striped red star", "x"]
TEXTS = [f"X X {name}." for name in NAMES]
LENGTH = 20


@pytest.fixture(params=KINDS)
def backbone(request, open_clip_backbone):
    return open_clip_backbone(request.param)


def text_reference(model, deep, adapters=None):
    """All tokens of all texts; deep[layer] (C, T, d) stands behind [SOS]."""
    text = getattr(model, "text", model)
    tokens = clip.tokenize(TEXTS, context_length=LENGTH)

    def placed(x, layer):
        if layer not in deep:
            return x
        return torch.cat([x[:, :1], deep[layer], x[:, 1 + deep[layer].shape[1] :]], dim=1)

    x = placed(text.token_embedding(tokens), 0) + text.positional_embedding
    for layer, block in enumerate(text.transformer.resblocks):
        x = placed(x, layer) if layer else x
        extra = adapters(block.ln_1(x)) if adapters and layer == 1 else 0
        x = block(x, attn_mask=text.attn_mask) + extra
    pool = getattr(model, "text_pool_type", None) or text.pool_type
    x = text.ln_final(x)
    x = x[:, -1] if pool == "last" else x[range(len(x)), tokens.argmax(dim=1)]
    if text.text_projection is None:
        return x
    linear = isinstance(text.text_projection, torch.nn.Linear)
    return text.text_projection(x) if linear else x @ text.text_projection


def image_reference(model, images, prompts, adapters=None):
    """Own transformers and SigLIP: prompts behind the patches; rotary ones: behind [CLS]."""
    if not hasattr(model.visual, "trunk"):
        return _own_reference(model.visual, images, prompts, adapters)
    trunk, count = model.visual.trunk, prompts.shape[1]
    rope = getattr(trunk, "rope", None)
    x = trunk._pos_embed(trunk.patch_embed(images))
    x = trunk.norm_pre(x if rope is None else x[0])
    own, first = x.shape[1], 0 if rope is None else 1
    for layer, block in enumerate(trunk.blocks):
        if layer < len(prompts):
            prompt = trunk.norm_pre(prompts[0]) if layer == 0 else prompts[layer]
            behind = x[:, first:] if layer == 0 else x[:, first + count :]
            x = torch.cat([x[:, :first], prompt.expand(len(x), -1, -1), behind], dim=1)
        extra = adapters(block.norm1(x)) if adapters and layer == 1 else 0
        if rope is None:
            x = block(x) + extra
            continue
        block.attn.num_prefix_tokens = 1 + (count if len(prompts) else 0)
        x = block(x, rope=rope.get_embed()) + extra
        block.attn.num_prefix_tokens = 1
    if len(prompts):
        x = torch.cat([x[:, :first], x[:, first + count :]], dim=1)
    assert x.shape[1] == own
    return trunk.forward_head(trunk.norm(x))


def _own_reference(visual, images, prompts, adapters):
    count = prompts.shape[1]
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
    x = visual.ln_pre(x + visual.positional_embedding)
    own = x.shape[1]
    for layer, block in enumerate(visual.transformer.resblocks):
        if layer < len(prompts):
            prompt = visual.ln_pre(prompts[0]) if layer == 0 else prompts[layer]
            x = torch.cat([x[:, :own], prompt.expand(len(x), -1, -1)], dim=1)
        x = block(x) + (adapters(block.ln_1(x)) if adapters and layer == 1 else 0)
    assert x.shape[1] == own + (count if len(prompts) else 0)
    pooled = x[:, 0] if visual.pool_type == "tok" else x[:, 1:own].mean(dim=1)
    return visual.ln_post(pooled) @ visual.proj


@pytest.fixture
def assert_same(assert_exact):
    """Values, and gradients of a weighted sum, which every leaf has."""

    def check(found, expected, *leaves):
        weights = torch.randn_like(expected)
        assert_exact(found, expected)
        got = torch.autograd.grad((found * weights).sum(), leaves)
        wanted = torch.autograd.grad((expected * weights).sum(), leaves)
        for a, b in zip(got, wanted, strict=True):
            for ours, theirs in zip(a, b, strict=True):  # layer by layer
                assert_exact(ours, theirs)
            assert b.flatten(1).norm(dim=1).min() > 1e-4

    return check


@pytest.mark.parametrize("kind", CONFIGS)
def test_depth_zero_is_the_model_s_own(open_clip_backbone, kind):
    backbone = open_clip_backbone(kind)
    model, images = backbone.model, torch.randn(3, 3, 32, 32)
    tokens = clip.tokenize(TEXTS, context_length=LENGTH)
    found = encode_image(model, images)
    torch.testing.assert_close(found, model.encode_image(images), rtol=0, atol=1e-5)
    assert torch.equal(encode_image(model, embed_image(model, images)), found)
    found = encode_texts(model, TEXTS, chunk=2, tokenizer=backbone.tokenizer)
    torch.testing.assert_close(found, model.encode_text(tokens), rtol=0, atol=1e-5)
    assert not model.training and not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("depth", [1, 4])
def test_prompts_of_the_text_tower(backbone, assert_same, depth):
    model, tower = backbone.model, backbone.text
    prompts = torch.randn(depth, 2, tower.width).requires_grad_()
    found = encode_text(model, tokenize(TEXTS, 2, backbone.tokenizer), prompts)
    deep = {layer: prompt.expand(3, -1, -1) for layer, prompt in enumerate(prompts)}
    assert found.shape == (3, tower.joint_width)
    assert_same(found, text_reference(model, deep), prompts)


def test_prompts_for_each_class_and_for_each_image(backbone, assert_same):
    model, tokenized = backbone.model, tokenize(TEXTS, 2, backbone.tokenizer)
    per_class = torch.randn(3, 2, backbone.text.width).requires_grad_()
    deep = torch.randn(3, 2, backbone.text.width).requires_grad_()
    found = encode_text(model, tokenized, (per_class, None, deep))
    assert_same(found, text_reference(model, {0: per_class, 2: deep}), per_class, deep)
    images = torch.randn(2, 1, 2, backbone.text.width).requires_grad_()
    found = encode_text(model, tokenized, (images,))
    expected = [text_reference(model, {0: image.expand(3, -1, -1)}) for image in images]
    assert_same(found, torch.stack(expected), images)


@pytest.mark.parametrize("depth", [1, 4])
def test_prompts_of_the_image_tower(backbone, assert_same, depth):
    model, images = backbone.model, torch.randn(2, 3, 32, 32)
    prompts = torch.randn(depth, 2, backbone.image.width).requires_grad_()
    expected = image_reference(model, images, prompts)
    assert_same(encode_image(model, images, prompts), expected, prompts)


def test_adapters(backbone, assert_same):
    model, images = backbone.model, torch.randn(2, 3, 32, 32)
    for width, found, expected in (
        (backbone.text.width,
         lambda f: encode_text(model, tokenize(TEXTS, 0, backbone.tokenizer), (), (None, f)),
         lambda f: text_reference(model, {}, f)),
        (backbone.image.width,
         lambda f: encode_image(model, images, (), (None, f)),
         lambda f: image_reference(model, images, torch.empty(0, 2, 1), f)),
    ):  # fmt: skip
        weight = (torch.randn(width, width) / 8).requires_grad_()
        assert_same(found(lambda x, w=weight: (x @ w).tanh()),
                    expected(lambda x, w=weight: (x @ w).tanh()), weight)  # fmt: skip


def test_convolutional_towers_take_no_prompts(open_clip_backbone):
    for kind, tower in (("resnet", "ResNet"), ("mobileclip", "ConvNeXt")):
        with pytest.raises(ValueError, match=f"is a {tower}; prompts need a plain tran"):
            require_transformer(open_clip_backbone(kind))
