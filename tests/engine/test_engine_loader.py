"""Test loaders: batches, the last partial batch, and the same draws for the same seed."""

import os
import pickle
import subprocess
import sys

import pytest
import torch
from dassl.data import DataManager, DatasetWrapper, build_data_loader
from dassl.data.data_manager import START_METHOD
from dassl.data.dataset_wrapper import _seed_sample
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


class AsPyTorch(torch.utils.data.Dataset):
    """Draw an augmentation as `DatasetWrapper` documents it, in workers that end with the epoch."""

    def __init__(self, cfg, source, transform):
        self.plain = DatasetWrapper(cfg, source, transform, is_train=True)

    def __len__(self):
        return len(self.plain)

    def __getitem__(self, index):
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            _seed_sample(worker.seed - worker.id, index)
        return self.plain[index]


def drawn(loader, epochs):
    set_random_seed(1)
    batches = [batch for _ in range(epochs) for batch in loader]
    return [torch.cat([b[key] for b in batches]) for key in ("index", "img")] + [torch.rand(1)]


@pytest.mark.parametrize("workers", [0, 2])
def test_lasting_workers_draw_what_new_ones_would(cfg, workers):
    """PyTorch's own loader is the reference: order, augmentation, the generator afterwards."""
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_translation", "cutout", "normalize")
    cfg.INPUT.CUTOUT_LEN = 3
    dm = DataManager(cfg)
    reference = torch.utils.data.DataLoader(
        AsPyTorch(cfg, dm.dataset.train_x, dm.train_loader_x.dataset.transform),
        batch_size=8,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context=START_METHOD if workers else None,
        drop_last=True,
    )
    expected = drawn(reference, 3)
    assert all(map(torch.equal, drawn(dm.train_loader_x, 3), expected))


def test_workers_of_a_resumed_epoch_draw_what_it_would_have_drawn(cfg):
    """In the middle of the second epoch: other workers, the same images."""
    cfg.DATALOADER.NUM_WORKERS = 2
    loader = DataManager(cfg).train_loader_x
    index, images, _ = drawn(loader, 2)
    set_random_seed(1)
    list(loader)
    resumed = DataManager(cfg).train_loader_x
    resumed.sampler.resume_after(2 * 8, then=lambda: None)
    rest = list(resumed)
    count = len(rest) * 8
    assert count == len(index) // 2 - 2 * 8 > 0
    assert torch.equal(torch.cat([b["index"] for b in rest]), index[-count:])
    assert torch.equal(torch.cat([b["img"] for b in rest]), images[-count:])


def test_only_training_workers_last(cfg):
    cfg.DATALOADER.NUM_WORKERS = 2
    dm = DataManager(cfg, custom_tfm_train=lambda image: torch.tensor(os.getpid()))
    first, second = ({int(p) for b in dm.train_loader_x for p in b["img"]} for _ in range(2))
    assert len(first) == 2 and first == second and os.getpid() not in first
    assert not dm.test_loader.persistent_workers and not dm.val_loader.persistent_workers


def test_a_process_ends_though_it_holds_a_loader_with_workers(tmp_path):
    """They ignore the one SIGTERM that Python sends them before it waits for them."""
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    script = f"""
from dassl.config import get_cfg_default
from dassl.data import build_data_loader
from dassl.data.datasets import Datum
cfg = get_cfg_default()
cfg.DATALOADER.NUM_WORKERS = 2
source = [Datum({str(tmp_path / "image.png")!r})] * 4
loader = build_data_loader(cfg, data_source=source, tfm=lambda image: 0, batch_size=2)
print([len(batch["index"]) for batch in loader])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0 and done.stdout.endswith("[2, 2]\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_another_kind_of_data_set_has_new_workers_each_epoch(cfg):
    """Its draws come from PyTorch's seed of the worker."""

    class Other(torch.utils.data.Dataset):
        def __init__(self, cfg, data_source, transform, is_train):
            self.items = data_source

        def __len__(self):
            return len(self.items)

        def __getitem__(self, index):
            return torch.rand(1)

    cfg.DATALOADER.NUM_WORKERS = 2

    def draws(seed):
        set_random_seed(seed)
        loader = DataManager(cfg, dataset_wrapper=Other).train_loader_x
        return [torch.cat(list(loader)) for _ in range(2)]

    one, again, other = draws(1), draws(1), draws(2)
    assert all(map(torch.equal, one, again))
    assert not torch.equal(*one) and not torch.equal(one[0], other[0])


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
