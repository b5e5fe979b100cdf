"""Tip-Adapter's cache and search on the miniature data set."""

import itertools

import pytest
import torch
from dassl.data.datasets import Datum
from dassl.utils import set_random_seed
from torch.utils.data import DataLoader

from tests.reference import unit
from trainers.shot_features import shot_features
from trainers.tip_adapter import GRID


@pytest.fixture
def fill(build):
    """A trainer whose cache is filled: each key of one view, not augmented."""

    def call(trainer="TipAdapter", *pairs):
        plain = ("INPUT.TRANSFORMS", "['normalize']", "TRAINER.TIPADAPTER.AUGMENT_EPOCHS", "1")
        built = build(trainer, *plain, *pairs)
        built.before_train()
        return built

    return call


def loaded(loader):
    batches = list(loader)
    return (torch.cat([batch[key] for batch in batches]) for key in ("img", "label"))


def test_the_cache_holds_the_shots_in_their_order(fill):
    trainer = fill()
    cache, dataset = trainer.model.prompt_learner, trainer.train_loader_x.dataset
    images = torch.stack([dataset[index]["img"] for index in range(8)])
    expected = unit(trainer.model.clip.encode_image(images))
    torch.testing.assert_close(cache.keys.data, expected, rtol=1e-4, atol=1e-5)
    assert cache.labels.tolist() == [item.label for item in trainer.dm.dataset.train_x]


def test_keys_are_means_over_augmentations(fill):
    trainer = fill("TipAdapter", "INPUT.TRANSFORMS", "['gaussian_noise', 'normalize']")
    dataset, encode = trainer.train_loader_x.dataset, trainer.model.clip.encode_image
    set_random_seed(5)
    views = [next(iter(DataLoader(dataset, 8)))["img"] for _ in range(3)]
    assert not torch.equal(views[0], views[1])
    set_random_seed(5)
    keys, _ = shot_features(trainer, 3)
    torch.testing.assert_close(keys, unit(sum(map(encode, views))), rtol=1e-4, atol=1e-5)


def test_keys_do_not_depend_on_the_number_of_workers(build):
    keys = []
    for workers in ("1", "2"):
        trainer = build("TipAdapter", "DATALOADER.NUM_WORKERS", workers)
        set_random_seed(5)
        keys.append(shot_features(trainer, 2)[0])
    assert torch.equal(*keys)


def test_a_cache_is_evaluated_whatever_this_run_s_shots_are(run, tmp_path):
    trained = run("TipAdapterF", "trained")  # 2 shots
    load = {"model_dir": str(tmp_path / "trained")}
    found = run("TipAdapterF", "evaluated", "--eval-only", "DATASET.NUM_SHOTS", "1", **load)
    assert found["correct"] == trained["correct"]


@pytest.mark.parametrize("trainer", ["TipAdapter", "TipAdapterF"])
def test_the_search_finds_the_first_best_pair_on_the_validation_images(fill, trainer):
    """Loops over a grid as published, beta outside."""
    built = fill(trainer, "TRAINER.TIPADAPTER.SEARCH_ALPHA", "4")
    cache, model = built.model.prompt_learner, built.model.clip
    images, labels = loaded(built.val_loader)
    f = unit(model.encode_image(images))
    cache.keys.data = unit(f + 0.01 * torch.randn(8, 32))  # keys that help
    zero_shot = model.logit_scale.exp() * f @ built.model.frozen_text.T
    best, pair = -1, None
    for i, j in itertools.product(range(GRID[0]), range(GRID[1])):
        beta, alpha = 0.1 + i * 11.9 / 200, 0.1 + j * 3.9 / 20
        affinity = f @ cache.keys.T
        logits = zero_shot + alpha * (-beta + beta * affinity).exp() @ torch.eye(4)[cache.labels]
        right = (logits.argmax(dim=1) == labels).sum().item()
        if right > best:
            best, pair = right, (alpha, beta)
    assert pair != (0.1, 0.1)
    built.epoch = built.max_epoch - 1
    built.after_epoch()
    assert (cache.alpha.item(), cache.beta.item()) == pytest.approx(pair)


@pytest.mark.parametrize("linked", [False, True])
def test_test_images_are_never_searched_on(fill, tmp_path, linked):
    """ImageNet's validation images are its test images."""
    built = fill()
    built.dm.dataset._val = images = list(built.dm.dataset.test)
    if linked:
        (tmp_path / "link.png").symlink_to(images[0].impath)
        images[:] = [Datum(str(tmp_path / "link.png"), 0, 0, images[0].classname)]
    built.epoch = built.max_epoch - 1
    built.after_epoch()
    cache = built.model.prompt_learner
    assert (cache.alpha.item(), cache.beta.item()) == pytest.approx((1.17, 1.0))
    log = (tmp_path / "built" / "log.txt").read_text()
    assert "chooses nothing on validation images: Caltech101 has none" in log


def test_only_as_many_validation_images_as_the_protocol_draws(fill, tmp_path):
    built = fill()
    built.dm.dataset._val = built.dm.dataset.val * 5
    built.epoch = built.max_epoch - 1
    built.after_epoch()
    log = (tmp_path / "built" / "log.txt").read_text()
    assert "chooses on 8 validation images" in log  # 4 classes, 2 shots
