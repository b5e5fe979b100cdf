"""Test transforms: the order of the steps, the family's settings, and every name."""

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from dassl.data.transforms import AVAI_CHOICES, build_transform
from dassl.utils import set_random_seed
from PIL import Image
from torchvision.transforms import InterpolationMode


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def clip_cfg(cfg):
    cfg.INPUT.SIZE = (32, 32)
    cfg.INPUT.PIXEL_MEAN = [0.48145466, 0.4578275, 0.40821073]
    cfg.INPUT.PIXEL_STD = [0.26862954, 0.26130258, 0.27577711]
    return cfg


def test_family_training_transform(clip_cfg, image):
    reference = T.Compose(
        [
            T.RandomResizedCrop(
                (32, 32), scale=(0.08, 1.0), interpolation=InterpolationMode.BICUBIC
            ),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(clip_cfg.INPUT.PIXEL_MEAN, clip_cfg.INPUT.PIXEL_STD),
        ]
    )
    transform = build_transform(clip_cfg, is_train=True)
    for seed in range(5):
        torch.manual_seed(seed)
        expected = reference(image)
        torch.manual_seed(seed)
        assert torch.equal(transform(image), expected)


def test_family_test_transform(clip_cfg, image):
    resized = image.resize((48, 32), Image.BICUBIC).crop((8, 0, 40, 32))
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
    mean = torch.tensor(clip_cfg.INPUT.PIXEL_MEAN)[:, None, None]
    std = torch.tensor(clip_cfg.INPUT.PIXEL_STD)[:, None, None]
    actual = build_transform(clip_cfg, is_train=False)(image)
    torch.testing.assert_close(actual, (pixels - mean) / std)


def test_squashed_test_images(clip_cfg, image):
    clip_cfg.INPUT.RESIZE_MODE = "squash"
    pixels = torch.from_numpy(np.array(image.resize((32, 32), Image.BICUBIC))).permute(2, 0, 1)
    mean = torch.tensor(clip_cfg.INPUT.PIXEL_MEAN)[:, None, None]
    std = torch.tensor(clip_cfg.INPUT.PIXEL_STD)[:, None, None]
    actual = build_transform(clip_cfg, is_train=False)(image)
    torch.testing.assert_close(actual, (pixels / 255 - mean) / std)


def test_order_does_not_depend_on_the_config(clip_cfg):
    names = (
        "instance_norm",
        "cutout",
        "normalize",
        "gaussian_blur",
        "randomgrayscale",
        "colorjitter",
        "randaugment",
        "random_flip",
        "random_crop",
        "random_translation",
    )
    steps = build_transform(clip_cfg, choices=names).transforms
    assert [type(step).__name__ for step in steps] == [
        "RandomTranslation",
        "RandomCrop",
        "RandomHorizontalFlip",
        "RandAugment",
        "ColorJitter",
        "RandomGrayscale",
        "RandomApply",
        "ToTensor",
        "Cutout",
        "Normalize",
        "InstanceNormalization",
    ]


@pytest.mark.parametrize("name", AVAI_CHOICES)
def test_every_name_gives_an_image_and_follows_the_seed(clip_cfg, image, name):
    transform = build_transform(clip_cfg, choices=[name])
    draws = []
    for _ in range(2):
        set_random_seed(3)
        draws.append(transform(image))
    assert draws[0].shape == (3, 32, 32)
    assert draws[0].isfinite().all()
    assert torch.equal(*draws)


def test_cutout_and_instance_norm_by_hand(clip_cfg):
    clip_cfg.INPUT.CUTOUT_LEN = 4
    white = Image.new("RGB", (32, 32), (255, 255, 255))
    np.random.seed(0)
    y, x = np.random.randint(32), np.random.randint(32)
    np.random.seed(0)
    cut = build_transform(clip_cfg, choices=["cutout"])(white)
    expected = torch.ones(3, 32, 32)
    expected[:, max(y - 2, 0) : y + 2, max(x - 2, 0) : x + 2] = 0
    assert torch.equal(cut, expected)

    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    normed = build_transform(clip_cfg, False, ["instance_norm"])(noise)
    torch.testing.assert_close(normed.mean((1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.flatten(1).std(1), torch.ones(3))


def test_unknown_name_and_no_transform(cfg):
    with pytest.raises(ValueError, match="Unknown transform.*Did you mean 'random_flip'"):
        build_transform(cfg, choices=["randomflip"])
    cfg.INPUT.NO_TRANSFORM = True
    assert build_transform(cfg) is None


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (50, 3), (23, 24), (31, 200)])
def test_an_image_smaller_than_a_crop_is_resized_as_clip_does(clip_cfg, size):
    """The smaller edge becomes the crop's; where a padded crop fits, nothing is resized."""
    rng = np.random.default_rng(2)
    small = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    fits = min(size) + 2 * clip_cfg.INPUT.CROP_PADDING >= 32
    bicubic = InterpolationMode.BICUBIC
    larger = small if fits else T.functional.resize(small, 32, bicubic)
    reference = T.Compose([T.RandomCrop((32, 32), padding=4), T.ToTensor()])
    transform = build_transform(clip_cfg, choices=["random_crop"])
    torch.manual_seed(1)
    expected = reference(larger)
    torch.manual_seed(1)
    assert torch.equal(transform(small), expected)
    for is_train in (True, False):  # the family's
        assert build_transform(clip_cfg, is_train)(small).shape == (3, 32, 32)
