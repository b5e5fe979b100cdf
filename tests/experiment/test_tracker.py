"""Trackers, in the shape of a module that stands in for theirs: `init`, `log`, `finish`."""

import sys
from types import SimpleNamespace

import pytest

from experiment import cli


class StandIn:
    """Keeps what it gets; fails in the function named."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.began, self.rows, self.ended = failing, [], [], 0

    def init(self, project, name, config, reinit=""):
        self._fail("init")
        self.reinit = reinit
        self.began.append((project, name, config))
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, values):
        self._fail("log")
        self.rows.append(values)

    def finish(self):
        self._fail("finish")
        self.ended += 1

    def _fail(self, name):
        if name == self.failing:
            raise RuntimeError(f"no network in {name}")


@pytest.fixture
def tracker(monkeypatch):
    def make(name: str = "wandb", failing: str = "") -> StandIn:
        module = StandIn(failing)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_it_gets_what_tensorboard_gets_a_step_at_a_time(run, tracker, name):
    module = tracker(name)
    results = run("CoOp", "tracked", "TRAIN.TRACKER", name, "DATALOADER.TRAIN_X.BATCH_SIZE", "4")
    ((project, title, config),) = module.began
    assert (project, module.ended) == ("mmlop", 1)
    assert module.reinit == ("create_new" if name == "wandb" else "")
    assert title.endswith("/tracked") and config["TRAINER"]["NAME"] == "CoOp"
    *steps, last = module.rows
    assert [row["step"] for row in steps] == [0, 1, 2, 3]
    assert all({"train/loss", "train/acc", "train/lr"} <= set(row) for row in steps)
    assert last["test/accuracy"] == pytest.approx(results["accuracy"]) and last["step"] == 1


def test_an_evaluation_is_tracked_too(run, tracker, tmp_path):
    run("CoOp", "trained")
    module = tracker()
    flags = {"model_dir": str(tmp_path / "trained")}
    run("CoOp", "evaluated", "--eval-only", "TRAIN.TRACKER", "wandb", **flags)
    assert "test/accuracy" in module.rows[-1] and module.ended == 1


@pytest.mark.parametrize("failing", ["init", "log", "finish"])
def test_one_that_fails_ends_no_run_and_changes_no_figure(run, tracker, tmp_path, failing):
    plain = run("CoOp", "plain")
    module = tracker(failing=failing)
    results = run("CoOp", "tracked", "TRAIN.TRACKER", "wandb")
    assert results["accuracy"] == plain["accuracy"]
    log = (tmp_path / "tracked" / "log.txt").read_text()
    assert (
        log.count(f"wandb failed, and gets nothing more of this run: no network in {failing}") == 1
    )
    assert module.rows == [] or failing == "finish"


def test_one_that_is_not_installed_is_refused(run, monkeypatch, capsys, tmp_path):
    """Before anything is deleted."""
    run("CoOp", "tracked")
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(SystemExit) as end:
        run("CoOp", "tracked", "--overwrite", "TRAIN.TRACKER", "trackio")
    assert end.value.code == 2 and (tmp_path / "tracked" / "results.json").exists()
    assert "TRAIN.TRACKER trackio is not there: pip install trackio." in capsys.readouterr().err


def test_another_name_is_refused():
    with pytest.raises(ValueError, match='TRAIN.TRACKER must be wandb or trackio, or "" for none'):
        cli.expected(["--trainer", "CoOp", "TRAIN.TRACKER", "mlflow"])
