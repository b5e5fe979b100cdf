import numpy as np
import pytest
import torch
from dassl.data.transforms import build_transform
from PIL import Image

from experiment import cli
from prompting.preprocess import ImageSettings, image_transform


def test_preprocessing_is_that_of_the_evaluation():
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    cfg = cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP"]))  # the demo world, 64 pixels
    expected = build_transform(cfg, is_train=False)(image)
    found = image_transform(64)(image)
    assert found.shape == (3, 64, 64)
    torch.testing.assert_close(found, expected)


def test_grey_images_and_palettes_become_rgb():
    assert image_transform(32)(Image.new("L", (40, 50), 128)).shape == (3, 32, 32)
    assert image_transform(32)(Image.new("P", (40, 50))).shape == (3, 32, 32)


def test_a_backbone_brings_its_preprocessing(tiny_backbone):
    image = Image.new("RGB", (50, 40), (10, 200, 30))
    torch.testing.assert_close(tiny_backbone.preprocess(image), image_transform(32)(image))


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_it_is_the_evaluation_s_for_other_models_too(resize_mode, interpolation):
    """A model of open_clip: its settings, set in the configuration and in the library."""
    pytest.importorskip("open_clip", reason="needs the extra open_clip")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    cfg = cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP"]))
    cfg.INPUT.SIZE = (32, 32)
    settings = ImageSettings((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), interpolation, resize_mode)
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = list(settings.mean), list(settings.std)
    cfg.INPUT.INTERPOLATION, cfg.INPUT.RESIZE_MODE = interpolation, resize_mode
    expected = build_transform(cfg, is_train=False)(image)
    assert torch.equal(image_transform(32, settings)(image), expected)
    palette = image.convert("P")
    assert torch.equal(
        image_transform(32, settings)(palette),
        image_transform(32, settings)(palette.convert("RGB")),
    )
