"""Check that a run interrupted anywhere ends like an uninterrupted one, and detect broken files."""

import errno
import os

import numpy as np
import pytest
import torch
from dassl.engine import build_trainer
from dassl.utils import latest_checkpoint, load_checkpoint, save_checkpoint, set_random_seed
from dassl.utils.logger import LOGGER, setup_logger
from torch import nn


@pytest.fixture
def cfg(cfg):
    # One step for each generator: torch (crop), Python's (translation), numpy's (cutout).
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_translation", "cutout", "normalize")
    cfg.INPUT.CUTOUT_LEN = 3
    cfg.OPTIM.MAX_EPOCH = 3
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 6  # five batches of the thirty images
    return cfg


def build(cfg, folder, seed=1):
    cfg.OUTPUT_DIR = str(folder)
    set_random_seed(seed)
    return build_trainer(cfg)


def end(folder):
    """Return the last checkpoint without its training time."""
    checkpoint = load_checkpoint(latest_checkpoint(folder / "linear"))
    assert checkpoint.pop("seconds") > 0
    return checkpoint


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def stop_after(trainer, steps):
    """Request a stop during the step with this number."""
    step, done = trainer.forward_backward, []

    def counting(batch):
        done.append(1)
        if len(done) == steps:
            trainer.request_stop()
        return step(batch)

    trainer.forward_backward = counting
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert len(done) == steps


@pytest.mark.parametrize(("workers", "steps"), [(0, [1, 4, 5, 6, 14, 15]), (2, [3, 5])])
def test_a_stop_at_any_step_changes_nothing(cfg, tmp_path, workers, steps):
    cfg.DATALOADER.NUM_WORKERS = workers
    whole = build(cfg, tmp_path / "whole")
    whole.train()
    for step in steps:
        folder = tmp_path / f"cut{step}"
        stop_after(build(cfg, folder), step)
        name = latest_checkpoint(folder / "linear").name
        assert name == f"model.pth.tar-{(step - 1) // 5}-{(step - 1) % 5 + 1}"
        cfg.RESUME = str(folder)
        resumed = build(cfg, folder, seed=99)
        resumed.train()
        assert_same(end(tmp_path / "whole"), end(folder))
        cfg.RESUME = ""


def test_a_resumed_epoch_opens_no_image_twice(cfg, tmp_path, monkeypatch):
    stop_after(build(cfg, tmp_path / "cut"), 3)
    cfg.RESUME = str(tmp_path / "cut")
    cfg.OPTIM.MAX_EPOCH = 1
    cfg.TEST.NO_TEST = True
    resumed = build(cfg, tmp_path / "cut")
    opened = []
    wrapper = type(resumed.train_loader_x.dataset)
    get = wrapper.__getitem__
    monkeypatch.setattr(wrapper, "__getitem__", lambda self, i: opened.append(i) or get(self, i))
    resumed.train()
    assert len(opened) == len(set(opened)) == 2 * 6


def test_any_number_of_workers_draws_the_same(cfg):
    def epoch(workers):
        cfg.DATALOADER.NUM_WORKERS = workers
        set_random_seed(1)
        batches = list(build_trainer(cfg).train_loader_x)
        return torch.cat([b["index"] for b in batches]), torch.cat([b["img"] for b in batches])

    one, two = epoch(1), epoch(2)
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert one[1].flatten(1).unique(dim=0).shape[0] == 30  # no two images drawn alike


def test_checkpoints_within_epochs(cfg, tmp_path):
    """Save every two steps; within epochs, only checkpoints among the latest two are kept."""
    cfg.TRAIN.CHECKPOINT_STEPS = 2
    cfg.TRAIN.CHECKPOINT_FREQ = 1
    seen = []
    trainer = build(cfg, tmp_path / "run")
    save = trainer.save_model

    def listing(*args, **kwargs):
        save(*args, **kwargs)
        folder = tmp_path / "run" / "linear"
        seen.append(sorted(p.name.removeprefix("model.pth.tar-") for p in folder.glob("model*")))

    trainer.save_model = listing
    trainer.train()
    assert seen[:4] == [["0-2"], ["0-2", "0-4"], ["0-4", "1"], ["1", "1-1"]]
    assert seen[-1] == ["1", "2", "2-4", "3"]


def test_a_stop_while_validating_is_one_after_the_last_batch(cfg, tmp_path):
    cfg.TEST.FINAL_MODEL = "best_val"
    build(cfg, tmp_path / "whole").train()
    trainer = build(cfg, tmp_path / "cut")
    test = trainer.test

    def stopping(split=None):
        if trainer.epoch == 1:
            trainer.request_stop()
        return test(split)

    trainer.test = stopping
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert latest_checkpoint(tmp_path / "cut" / "linear").name == "model.pth.tar-1-5"
    cfg.RESUME = str(tmp_path / "cut")
    resumed = build(cfg, tmp_path / "cut", seed=99)
    resumed.train()
    assert_same(end(tmp_path / "whole"), end(tmp_path / "cut"))
    best = [
        load_checkpoint(tmp_path / n / "linear" / "model-best.pth.tar") for n in ("whole", "cut")
    ]
    assert_same(best[0]["state_dict"], best[1]["state_dict"])
    assert best[0]["val_result"] == best[1]["best_result"] == resumed.best_result


def test_weights_that_are_not_finite_are_not_saved(cfg, tmp_path):
    cfg.TRAIN.CHECKPOINT_FREQ = 1
    trainer = build(cfg, tmp_path / "run")
    after_epoch = trainer.after_epoch

    def spoil():
        if trainer.epoch == 1:
            trainer.model[2].bias.data[0] = float("nan")
        after_epoch()

    trainer.after_epoch = spoil
    with pytest.raises(
        FloatingPointError, match="2.bias of 'linear' holds infinite or NaN.*epoch 2"
    ):
        trainer.train()
    assert latest_checkpoint(tmp_path / "run" / "linear").name == "model.pth.tar-1"


def two_checkpoints(folder):
    weights = nn.Linear(20, 30).state_dict()
    for epoch in (1, 2):
        save_checkpoint(
            {"state_dict": weights, "epoch": epoch, "rng": torch.get_rng_state()}, folder
        )
    return folder / "model.pth.tar-2"


def test_a_checkpoint_is_an_ordinary_file_of_torch(tmp_path):
    path = two_checkpoints(tmp_path)
    assert torch.load(path, weights_only=True)["epoch"] == 2
    assert torch.load(path, weights_only=False, map_location="cpu")["epoch"] == 2


@pytest.mark.parametrize("tenth", range(10))
def test_a_checkpoint_cut_short(tmp_path, tenth):
    path = two_checkpoints(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenth // 10])
    with pytest.raises(ValueError, match="cut short.*The one before it, model.pth.tar-1") as error:
        load_checkpoint(path)
    assert str(error.value).endswith(
        "is whole: evaluate that (--load-epoch 1, or its path), or delete model.pth.tar-2 to "
        "resume from it."
    )
    path.unlink()  # as the message says
    assert latest_checkpoint(tmp_path).name == "model.pth.tar-1"


def test_flipped_bytes(tmp_path):
    """Flip one bit anywhere: in the weights, in the archive's tables, in the checksum itself."""
    path = two_checkpoints(tmp_path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    places = [0, *random.integers(len(whole), size=60), *range(len(whole) - 95, len(whole))]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << random.integers(8)
        path.write_bytes(changed)
        with pytest.raises(
            ValueError, match="changed after it was written: .*match its checksum.*-1, is whole"
        ):
            load_checkpoint(path)
    path.write_bytes(whole)
    assert load_checkpoint(path)["epoch"] == 2


def test_the_index_names_no_file_elsewhere(tmp_path):
    two_checkpoints(tmp_path / "m")
    two_checkpoints(tmp_path)
    (tmp_path / "m" / "checkpoint").write_text("../model.pth.tar-1\n")
    assert latest_checkpoint(tmp_path / "m") == tmp_path / "m" / "model.pth.tar-1"
    (tmp_path / "m" / "checkpoint").write_text("\n")
    assert latest_checkpoint(tmp_path / "m") == tmp_path / "m" / "model.pth.tar-2"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_files(tmp_path, monkeypatch, call):
    """Fail at every sync and every rename of a save."""
    path = two_checkpoints(tmp_path)
    whole = path.read_bytes()
    real = getattr(os, call)
    for fails_at in range(1, 5):
        calls = []

        def failing(*args, calls=calls, fails_at=fails_at):
            calls.append(args)
            if len(calls) == fails_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args)

        monkeypatch.setattr(os, call, failing)
        try:
            save_checkpoint({"state_dict": {}, "epoch": 3}, tmp_path)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert error.filename in (
                str(tmp_path / "model.pth.tar-3"),
                str(tmp_path / "checkpoint"),
            )
        else:
            assert len(calls) < fails_at
        monkeypatch.undo()
        assert path.read_bytes() == whole
        assert load_checkpoint(latest_checkpoint(tmp_path))["epoch"] in (2, 3)
        assert not list(tmp_path.glob(".*"))


def test_a_log_that_cannot_be_written_ends_the_run(tmp_path, capsys):
    setup_logger(tmp_path)
    file = LOGGER.handlers[-1]

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    file.stream.close()
    file.stream = type("Full", (), {"write": full, "flush": full, "close": full})()
    with pytest.raises(OSError, match="No space left on device: .*log.txt"):
        LOGGER.info("a line")
    setup_logger(None)  # the next run has nothing to do with it
    assert "Traceback" not in capsys.readouterr().err


def test_a_console_that_went_away_does_not_disturb(tmp_path, monkeypatch, capsys):
    setup_logger(tmp_path)

    def gone(*_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("sys.stdout", type("Gone", (), {"write": gone, "flush": gone})())
    LOGGER.info("a line")
    assert (tmp_path / "log.txt").read_text() == "a line\n"
    assert capsys.readouterr().err == ""
