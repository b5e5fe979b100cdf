"""Test the demo world: counts, golden values, and images fixed by their names."""

import numpy as np
import pytest
from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset
from dassl.utils import set_random_seed

import datasets
from datasets import shapes
from datasets.shapeworld import CLASSES, render_image

NAMES = ("ShapeWorld", "ShapeWorldV2", "ShapeWorldSketch", "ShapeWorldA", "ShapeWorldR")

GOLDEN_NAMES = [
    "orange arrow on a pink background",
    "pink diamond on a orange background",
    "cyan leaf on a white background",
]
GOLDEN_MEANS = {
    "ShapeWorld": [164.1, 179.9, 168.0],
    "ShapeWorldV2": [213.0, 221.7, 215.8],
    "ShapeWorldSketch": [234.7, 241.8, 237.1],
    "ShapeWorldA": [225.7, 233.8, 227.3],
    "ShapeWorldR": [212.8, 233.9, 218.8],
}


def load(name, subsample="all", shots=-1, seed=1):
    cfg = get_cfg_default()
    datasets.add_config(cfg)
    cfg.DATASET.NAME, cfg.DATASET.NUM_SHOTS, cfg.SEED = name, shots, seed
    cfg.DATASET.SUBSAMPLE_CLASSES = subsample
    set_random_seed(seed)
    return build_dataset(cfg)


def test_classes_and_counts():
    world = load("ShapeWorld")
    assert len(CLASSES) == len(set(CLASSES)) == world.num_classes == 48
    assert (len(world.train_x), len(world.val), len(world.test)) == (48 * 64, 48 * 32, 48 * 40)
    assert world.classnames == [kind.name for kind in CLASSES]


def test_the_world_is_the_one_of_the_model_card():
    """Check that the world is unchanged, because weights and published figures depend on it."""
    assert [kind.name for kind in CLASSES[::16]] == GOLDEN_NAMES
    for variant, expected in GOLDEN_MEANS.items():
        image = np.asarray(render_image(variant, "test", 5, 0), dtype=float)
        assert image.mean(axis=(0, 1)) == pytest.approx(expected, abs=1.0), variant


def test_base_and_new_have_different_shapes():
    base, new = (load("ShapeWorld", half, shots=16) for half in ("base", "new"))
    assert len(base.val) == 24 * 32
    assert base.num_classes == new.num_classes == 24
    assert len(base.train_x) == 24 * 16
    nouns = [{name.split()[1] for name in world.classnames} for world in (base, new)]
    assert len(nouns[0]) == len(nouns[1]) == 6 and not nouns[0] & nouns[1]


@pytest.mark.parametrize("name", NAMES[1:])
def test_variants_share_training_and_classes_with_the_world(name):
    world, variant = load("ShapeWorld"), load(name)
    assert set(variant.classnames) <= set(world.classnames)
    assert variant.num_classes == (24 if name[-1] in "AR" else 48)
    assert variant.train_x[0].impath == world.train_x[0].impath
    assert variant.test[0].impath.startswith(f"{name}/test/")


def test_images_are_a_function_of_their_name():
    first = np.asarray(render_image("ShapeWorld", "train", 3, 7))
    render_image.cache_clear()
    assert np.array_equal(first, np.asarray(render_image("ShapeWorld", "train", 3, 7)))
    assert first.shape == (shapes.SIZE, shapes.SIZE, 3) and first.dtype == np.uint8
    others = [("ShapeWorld", "val", 3, 7), ("ShapeWorld", "train", 4, 7)]
    others += [("ShapeWorld", "train", 3, 8), ("ShapeWorldV2", "train", 3, 7)]
    for other in others:
        assert not np.array_equal(first, np.asarray(render_image(*other)))


def test_an_opened_image_can_be_changed_without_harm():
    item = load("ShapeWorld").test[0]
    item.open().paste((0, 0, 0), (0, 0, 64, 64))
    assert np.asarray(item.open()).any()


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_every_shape_is_seen_in_its_colour(shape):
    """Find a plausible area in about the colour that the name says."""
    style = shapes.Style(noise=0.0, clutter=0, offset=0.0, hue=0.0, value=0.0)
    scene = shapes.Scene(shape, "red", "plain", "white")
    image = shapes.render(scene, style, np.random.default_rng(0)) / 255
    red = (image[..., 0] > 0.6) & (image[..., 1] < 0.3)
    assert 0.05 < red.mean() < 0.6


def test_the_same_seed_draws_the_same_images_at_any_time():
    paths = [[item.impath for item in load("ShapeWorld", shots=4).train_x] for _ in range(2)]
    assert paths[0] == paths[1]
    assert paths[0] != [item.impath for item in load("ShapeWorld", shots=4, seed=2).train_x]
