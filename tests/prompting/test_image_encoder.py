import pytest
import torch
from clip.model import CLIP

from prompting import ArgumentError, encode_image
from prompting.image_encoder import embed_image


def reference(model, image, prompts):
    """One image, tokens first, through CLIP's own modules."""
    visual = model.visual
    depth, count, _ = prompts.shape
    x = visual.conv1(image[None]).flatten(2).permute(2, 0, 1)
    x = torch.cat([visual.class_embedding.view(1, 1, -1), x]) + visual.positional_embedding[:, None]
    x = visual.ln_pre(torch.cat([x, prompts[0].unsqueeze(1)]))
    for layer, block in enumerate(visual.transformer.resblocks):
        if 0 < layer < depth:
            x = torch.cat([x[: len(x) - count], prompts[layer].unsqueeze(1)])
        x = block(x)
    return visual.ln_post(x[0, 0]) @ visual.proj


def test_depth_zero_is_clip(tiny_clip):
    images = torch.randn(3, 3, 32, 32)
    expected = tiny_clip.encode_image(images)
    torch.testing.assert_close(encode_image(tiny_clip, images), expected, rtol=0, atol=1e-5)
    empty = torch.empty(0, 4, 192)
    torch.testing.assert_close(encode_image(tiny_clip, images, empty), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3, 4])
@pytest.mark.parametrize("count", [1, 4])
def test_prompted_features_and_gradients(tiny_clip, assert_exact, depth, count):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((3, 3, 32, 32), generator=generator)
    prompts = torch.randn((depth, count, 192), generator=generator).requires_grad_()
    weights = torch.randn((3, 32), generator=generator)

    features = encode_image(tiny_clip, images, prompts)
    (gradient,) = torch.autograd.grad((features * weights).sum(), prompts)
    expected = torch.stack([reference(tiny_clip, image, prompts) for image in images])
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), prompts)

    assert_exact(features, expected)
    for got, wanted in zip(gradient, expected_gradient, strict=True):  # layer by layer
        assert_exact(got, wanted)
    assert gradient.abs().amax(dim=(1, 2)).min() > 1e-4


@pytest.mark.parametrize("depth", [0, 2])
def test_embedded_images_take_the_place_of_images(tiny_clip, depth):
    images, prompts = torch.randn(3, 3, 32, 32), torch.randn(depth, 4, 192)
    embedded = embed_image(tiny_clip, images)
    assert embedded.shape == (3, 17, 192)
    expected = encode_image(tiny_clip, images, prompts)
    assert torch.equal(encode_image(tiny_clip, embedded, prompts), expected)


def test_a_resnet_tower_is_clip_alone():
    torch.manual_seed(0)
    model = CLIP(32, 32, (1, 1, 1, 1), 64, None, 77, 49408, 64, 1, 1).eval()
    images = torch.randn(2, 3, 32, 32)
    assert embed_image(model, images) is images
    torch.testing.assert_close(encode_image(model, images), model.encode_image(images))
    for argument, layers in (("prompts", torch.zeros(2, 4, 64)), ("adapters", [lambda x: x])):
        with pytest.raises(ArgumentError, match=f"^{argument} are for .* this image tower is no"):
            encode_image(model, images, **{argument: layers})


def test_an_adapter_sees_the_normalised_input_of_its_layer(tiny_clip):
    images, weight = torch.randn(2, 3, 32, 32), torch.randn(192, 192).requires_grad_()
    found = encode_image(tiny_clip, images, (), (None, lambda x: (x @ weight).tanh()))
    visual = tiny_clip.visual
    x = visual.conv1(images).flatten(2).permute(2, 0, 1)
    x = (
        torch.cat([visual.class_embedding.expand(1, 2, -1), x])
        + visual.positional_embedding[:, None]
    )
    x = visual.ln_pre(x)
    for layer, block in enumerate(visual.transformer.resblocks):
        x = block(x) + ((block.ln_1(x) @ weight).tanh() if layer == 1 else 0)
    expected = visual.ln_post(x[0]) @ visual.proj
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(2, 32)
    (got,) = torch.autograd.grad((found * weights).sum(), weight)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), weight)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
