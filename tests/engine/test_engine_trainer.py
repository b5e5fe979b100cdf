"""Test a toy trainer from the first epoch to a resumed run."""

import re
import shutil

import pytest
import torch
from dassl.engine import SimpleTrainer, TrainerBase, build_trainer
from dassl.utils import load_checkpoint, save_checkpoint, set_random_seed, setup_logger
from dassl.utils.logger import LOGGER, own_handlers
from torch import nn


def train(cfg):
    set_random_seed(1)
    trainer = build_trainer(cfg)
    trainer.train()
    return trainer


def test_trains_saves_tests_and_loads(cfg, tmp_path, capsys):
    trainer = train(cfg)
    out = capsys.readouterr().out
    folder = tmp_path / "out" / "linear"
    assert {p.name for p in folder.iterdir()} == {"checkpoint", "model.pth.tar-6"}
    assert any((tmp_path / "out" / "tensorboard").iterdir())
    assert set(load_checkpoint(folder / "model.pth.tar-6")) >= {
        "state_dict",
        "epoch",
        "optimizer",
        "scheduler",
        "val_result",
    }
    lines = re.findall(
        r"^epoch \[(\d)/6\] batch \[(\d)/3\] time \d+\.\d{3} \(\d+\.\d{3}\) "
        r"data \d+\.\d{3} \(\d+\.\d{3}\) loss \d+\.\d{4} \(\d+\.\d{4}\) "
        r"acc \d+\.\d{4} \(\d+\.\d{4}\) lr \d\.\d{4}e-\d\d eta 0:00:\d\d$",
        out,
        re.MULTILINE,
    )
    assert lines == [(str(e), str(b)) for e in range(1, 7) for b in range(1, 4)]
    tail = out[out.index("Finish training") :]
    assert "Deploy the last-epoch model\nEvaluate on the *test* set\n=> result\n* total: 12" in tail
    assert re.search(r"^Elapsed: \d:\d\d:\d\d$", tail, re.MULTILINE)

    accuracy = trainer.test()
    assert accuracy > 90
    fresh = build_trainer(cfg)
    capsys.readouterr()
    fresh.load_model(cfg.OUTPUT_DIR)  # no best model: the latest
    assert f"Load {folder}/model.pth.tar-6 to linear (epoch=6, val_result=None)" in (
        capsys.readouterr().out
    )
    assert fresh.test() == accuracy
    fresh.load_model(cfg.OUTPUT_DIR, epoch=6)
    with pytest.raises(FileNotFoundError, match="model.pth.tar-5"):
        fresh.load_model(cfg.OUTPUT_DIR, epoch=5)


@pytest.mark.parametrize("kind", ["constant", "linear"])
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(cfg, tmp_path, kind, stop):
    cfg.OPTIM.WARMUP_TYPE = kind
    cfg.TRAIN.CHECKPOINT_FREQ = 1
    cfg.TEST.NO_TEST = True
    whole = train(cfg)

    folder = tmp_path / "out" / "linear"
    for path in folder.glob("model.pth.tar-*"):
        if int(path.name.split("-")[-1]) > stop:
            path.unlink()
    (folder / "checkpoint").write_text(f"model.pth.tar-{stop}\n")
    cfg.RESUME = cfg.OUTPUT_DIR
    set_random_seed(99)
    resumed = build_trainer(cfg)
    resumed.train()
    assert resumed.rates == whole.rates[stop:]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_nothing_is_resumed_unasked(cfg, capsys):
    train(cfg)
    capsys.readouterr()
    again = train(cfg)
    assert len(again.rates) == 6
    assert "will resume" not in capsys.readouterr().out


def test_resume_from_an_empty_folder_trains_from_the_beginning(cfg, tmp_path, capsys):
    cfg.RESUME = str(tmp_path)
    assert len(train(cfg).rates) == 6
    assert "No checkpoint found, train from scratch" in capsys.readouterr().out


def test_best_model_is_kept_and_recalled(cfg, tmp_path, monkeypatch):
    cfg.TEST.FINAL_MODEL = "best_val"
    trainer = build_trainer(cfg)
    results = iter([50.0, 80.0, 70.0, 60.0, 80.0, 10.0, 80.0])
    splits = []
    monkeypatch.setattr(
        type(trainer), "test", lambda self, split=None: splits.append(split) or next(results)
    )
    trainer.train()
    assert splits == ["val"] * 6 + [None]
    best = load_checkpoint(tmp_path / "out" / "linear" / "model-best.pth.tar")
    assert (best["epoch"], best["val_result"]) == (2, 80.0)

    cfg.RESUME = cfg.OUTPUT_DIR
    results = iter([80.0])
    resumed = build_trainer(cfg)
    resumed.train()
    assert resumed.best_result == 80.0


def test_a_file_of_another_model_is_refused(cfg, tmp_path):
    folder = tmp_path / "other" / "linear"
    save_checkpoint({"state_dict": nn.Linear(3, 1).state_dict(), "epoch": 1}, folder)
    with pytest.raises(RuntimeError, match="does not fit the model 'linear'"):
        build_trainer(cfg).load_model(folder.parent)
    weights = {**build_trainer(cfg).model.state_dict(), "token_prefix": torch.ones(1)}
    save_checkpoint({"state_dict": weights, "epoch": 2}, folder)
    with pytest.raises(RuntimeError, match="token_prefix"):
        build_trainer(cfg).load_model(folder.parent, epoch=2)


def test_a_broken_loss_stops_the_run(cfg, monkeypatch):
    trainer = build_trainer(cfg)

    def diverge(batch):
        if (trainer.epoch, trainer.batch_idx) == (1, 2):
            trainer.model_backward_and_update(torch.tensor(float("nan"), requires_grad=True))

    monkeypatch.setattr(trainer, "forward_backward", diverge)
    with pytest.raises(FloatingPointError, match="epoch 2, batch 3.*OPTIM.LR"):
        trainer.train()


def test_order_of_the_hooks():
    calls = []

    class Recorder(TrainerBase):
        def __getattribute__(self, name):
            if name.startswith(("before_", "after_", "run_")):
                return lambda: calls.append(name)
            return super().__getattribute__(name)

    Recorder().train(1, 3)
    epoch = ["before_epoch", "run_epoch", "after_epoch"]
    assert calls == ["before_train", *epoch, *epoch, "after_train"]


def test_models_are_registered_once_and_after_init(cfg):
    trainer = build_trainer(cfg)
    with pytest.raises(ValueError, match="registered already"):
        trainer.register_model("linear")
    with pytest.raises(ValueError, match="Did you mean 'linear'"):
        trainer.get_current_lr("lineer")
    with pytest.raises(AttributeError, match="swap them"):
        TrainerBase.__new__(TrainerBase).register_model()
    with pytest.raises(NotImplementedError, match="override build_model"):
        SimpleTrainer(cfg)
    cfg.TRAINER.NAME = "EngineToy"
    with pytest.raises(ValueError, match="Unknown trainer.*Did you mean 'EngineToyTrainer'"):
        build_trainer(cfg)


@pytest.mark.parametrize("batch_size", [8, 30])  # with 30 each batch is the last of its epoch
def test_the_rate_that_is_shown_is_that_of_the_step(cfg, capsys, monkeypatch, batch_size):
    """Trainers step the schedulers before the line is written."""
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = batch_size
    trainer, points = build_trainer(cfg), []
    monkeypatch.setattr(trainer, "write_scalar", lambda *point: points.append(point))
    trainer.train()
    lines = re.findall(r"^epoch \[(\d)/6\].* lr (\S+) eta", capsys.readouterr().out, re.MULTILINE)
    rates = [(str(epoch), f"{rate:.4e}") for epoch, rate in enumerate(trainer.rates, start=1)]
    assert len(set(rates)) == 6 and lines == [
        rate for rate in rates for _ in range(30 // batch_size)
    ]
    written = [value for tag, value, *_ in points if tag == "train/lr"]
    assert written == [rate for rate in trainer.rates for _ in range(30 // batch_size)]


def test_steps_may_be_driven_from_outside(cfg, tmp_path):
    """Compare with `run_epoch`: the same weights, bit for bit, and the same checkpoints."""
    whole = train(cfg)
    shutil.rmtree(tmp_path / "out")
    set_random_seed(1)
    driven = build_trainer(cfg)
    driven.before_train()
    for epoch in range(driven.max_epoch):
        driven.epoch = epoch
        driven.before_epoch()
        numbers = []
        for batch in driven.batches():
            driven.end_step(driven.forward_backward(batch))
            numbers.append(driven.batch_idx)
        driven.after_epoch()
        assert numbers == [0, 1, 2] and driven.num_batches == 3
    driven.after_train()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, driven.model.state_dict()[name]), name
    names = {path.name for path in (tmp_path / "out" / "linear").iterdir()}
    assert names == {"checkpoint", "model.pth.tar-6"}


def test_seconds_of_waiting_are_no_training(cfg, monkeypatch):
    now = iter((100.0, 107.0, 107.0))
    trainer = build_trainer(cfg)
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    trainer.before_train()
    assert trainer.training_seconds == 7.0
    trainer.leave_out(5.0)
    assert trainer.training_seconds == 2.0


def test_runs_of_one_process_have_logs_of_their_own(tmp_path):
    """Check also that the log of one run does not close that of another."""
    outside, handlers = list(LOGGER.handlers), ([], [])
    for turn in range(2):
        for name, own in zip("ab", handlers, strict=True):
            with own_handlers(own):
                if turn == 0:
                    setup_logger(tmp_path / name)
                LOGGER.info(f"{name}{turn}")
    LOGGER.info("outside")
    assert LOGGER.handlers == outside
    assert (tmp_path / "a" / "log.txt").read_text() == "a0\na1\n"
    assert (tmp_path / "b" / "log.txt").read_text() == "b0\nb1\n"
    for handler in (*handlers[0], *handlers[1]):
        handler.close()
