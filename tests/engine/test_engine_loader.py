"""Test loaders: batches, the last partial batch, and the same draws for the same seed."""

import pickle
import sys

import pytest
import torch
from dassl.data import DataManager, DatasetWrapper, build_data_loader
from dassl.data.data_manager import START_METHOD
from dassl.data.datasets import Datum
from dassl.data.image_cache import ImageCache
from dassl.utils import set_random_seed
from PIL import Image


def indices(loader):
    return [batch["index"].tolist() for batch in loader]


def test_batches_hold_what_trainers_read(cfg):
    dm = DataManager(cfg)
    batch = next(iter(dm.train_loader_x))
    assert batch["img"].shape == (8, 3, 8, 8) and batch["img"].dtype == torch.float32
    assert set(batch) == {"img", "label", "domain", "impath", "index"}
    for label, impath, index in zip(batch["label"], batch["impath"], batch["index"], strict=True):
        datum = dm.dataset.train_x[index]
        assert (datum.label, datum.impath) == (label, impath)
    assert (dm.num_classes, dm.lab2cname[2], len(dm.val_loader), len(dm.test_loader)) == (
        3,
        "blue",
        1,
        1,
    )


@pytest.mark.parametrize(
    ("size", "is_train", "sizes"),
    [(7, True, [7, 7, 7, 7]), (30, True, [30]), (31, True, [30]), (7, False, [7, 7, 7, 7, 2])],
)
def test_last_partial_batch(cfg, size, is_train, sizes):
    source = DataManager(cfg).dataset.train_x
    loader = build_data_loader(
        cfg,
        data_source=source,
        batch_size=size,
        is_train=is_train,
        tfm=lambda image: torch.zeros(1),
    )
    assert [len(batch) for batch in indices(loader)] == sizes


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_same_order_and_augmentation(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    # One step for each generator: torch (crop), Python's (translation), numpy's (cutout).
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_translation", "cutout", "normalize")
    cfg.INPUT.CUTOUT_LEN = 3

    def epoch(seed):
        set_random_seed(seed)
        batches = list(DataManager(cfg).train_loader_x)
        return torch.cat([b["index"] for b in batches]), torch.cat([b["img"] for b in batches])

    first, again, other = epoch(1), epoch(1), epoch(2)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_epochs_differ_in_order(cfg):
    set_random_seed(1)
    loader = DataManager(cfg).train_loader_x
    assert indices(loader) != indices(loader)


def test_several_transforms_and_copies(cfg):
    source = DataManager(cfg).dataset.train_x
    plain = DatasetWrapper(cfg, source, transform=None)[1]
    assert plain["img"].size == (16, 12)

    def size(image):
        return torch.tensor(image.size)

    pair = DatasetWrapper(cfg, source, transform=[size, size])[0]
    assert set(pair) >= {"img", "img2"}
    cfg.DATALOADER.K_TRANSFORMS = 2
    cfg.DATALOADER.RETURN_IMG0 = True
    sample = DatasetWrapper(cfg, source, transform=size, is_train=True)[0]
    assert len(sample["img"]) == 2 and sample["img0"].shape == (3, 8, 8)
    assert torch.is_tensor(DatasetWrapper(cfg, source, transform=size, is_train=False)[0]["img"])
    with pytest.raises(ValueError, match="K_TRANSFORMS = 2 needs a transform"):
        DatasetWrapper(cfg, source, is_train=True)


def test_workers_are_started_by_the_named_method(cfg):
    """Check all three loaders; without workers there is no method, which torch would refuse."""
    expected = "fork" if sys.platform == "linux" else "spawn"
    assert expected == START_METHOD
    for workers, method in ((2, START_METHOD), (0, None)):
        cfg.DATALOADER.NUM_WORKERS = workers
        dm = DataManager(cfg)
        for loader in (dm.train_loader_x, dm.val_loader, dm.test_loader):
            context = loader.multiprocessing_context
            assert (context and context.get_start_method()) == method


def test_custom_parts_are_used(cfg):
    wrapped = []

    def wrapper(cfg, data_source, transform=None, is_train=False):
        wrapped.append((transform, is_train))
        return DatasetWrapper(cfg, data_source, transform, is_train)

    DataManager(cfg, custom_tfm_train=abs, custom_tfm_test=round, dataset_wrapper=wrapper)
    assert wrapped == [(abs, True), (round, False), (round, False)]


def test_errors(cfg):
    with pytest.raises(ValueError, match="test loader needs images.*DATASET.ROOT"):
        build_data_loader(cfg, data_source=[], is_train=False)
    cfg.DATALOADER.TRAIN_X.SAMPLER = "RandomSample"
    with pytest.raises(ValueError, match="Did you mean 'RandomSampler'"):
        DataManager(cfg)


def test_summary_table(cfg, capsys):
    DataManager(cfg)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("# ")] == ["3", "30", "6", "12"]
    assert "Dataset    EngineToyData" in lines


class Noted(Datum):
    """Hold a quarter of a megabyte that records each opening in a file, from any process."""

    def open(self):
        with open(self.impath, "a") as notes:
            notes.write(f"{self.label}\n")
        return Image.new("RGB", (256, 256), (self.label, 0, 0))


@pytest.fixture
def noted(tmp_path):
    return [Noted(str(tmp_path / "notes"), label) for label in range(10)]


def opened(tmp_path):
    """Return how often each of the ten was opened, most often first."""
    labels = (tmp_path / "notes").read_text().split()
    return sorted((labels.count(str(label)) for label in range(10)), reverse=True)


def two_epochs(cfg):
    set_random_seed(1)
    loader = DataManager(cfg).train_loader_x
    batches = [*loader, *loader]
    draw = torch.rand(1)  # the generator's state afterwards
    return torch.cat([b["index"] for b in batches]), torch.cat([b["img"] for b in batches]), draw


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_images_change_nothing(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_translation", "cutout", "normalize")
    cfg.INPUT.CUTOUT_LEN = 3
    kept = two_epochs(cfg)
    cfg.DATALOADER.CACHE_MB = 0
    assert all(torch.equal(a, b) for a, b in zip(kept, two_epochs(cfg), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("megabytes", "kept"), [(0, 0), (1, 4), (3, 10)])
def test_images_are_decoded_once_up_to_the_cap(cfg, noted, tmp_path, workers, megabytes, kept):
    """Keep four per megabyte; images decoded before the cap was reached count once more."""
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.CACHE_MB = megabytes
    loader = build_data_loader(cfg, data_source=noted, batch_size=5, tfm=lambda image: image.size)
    for _ in range(3):
        assert len(list(loader)) == 2
    times = opened(tmp_path)
    assert times[10 - kept :] == [1] * kept and set(times[: 10 - kept]) <= {3, 4}


def test_only_training_images_are_kept_and_only_where_they_are_used(cfg, noted, tmp_path):
    loader = build_data_loader(cfg, data_source=noted, tfm=lambda image: 0, is_train=False)
    build_data_loader(cfg, data_source=noted, tfm=lambda image: 0)
    assert not (tmp_path / "notes").exists()
    for _ in range(2):
        list(loader)
    assert opened(tmp_path) == [2] * 10


def test_a_kept_image_is_the_caller_s_own(noted):
    images = ImageCache(noted, megabytes=1)
    images.fill()
    images.open(3).putpixel((0, 0), (9, 9, 9))
    assert images.open(3).getpixel((0, 0)) == (3, 0, 0)
    assert images.open(-1).getpixel((0, 0)) == (9, 0, 0)


def test_a_spawned_worker_gets_no_copy_of_the_kept_images(noted):
    images = ImageCache(noted, megabytes=1, threads=2)
    images.fill()
    sent = pickle.dumps(images)
    assert len(sent) < 2000
    assert pickle.loads(sent).open(2).tobytes() == images.open(2).tobytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_image_is_reported_before_the_first_step(cfg, tmp_path, workers, noted):
    cfg.DATALOADER.NUM_WORKERS = workers
    source = [*noted, Datum(str(tmp_path / "gone.jpg"))]
    loader = build_data_loader(cfg, data_source=source, tfm=lambda image: 0)
    with pytest.raises(FileNotFoundError, match="No image at .*gone.jpg. Check DATASET.ROOT"):
        iter(loader)
