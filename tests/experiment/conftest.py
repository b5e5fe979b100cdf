"""Runs that are ended from outside: their arguments, their processes, their ends compared."""

import multiprocessing
import weakref
from pathlib import Path

import pytest
import torch
from dassl.utils import latest_checkpoint

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PROCESSES = multiprocessing.get_context("forkserver")


@pytest.fixture
def words(tiny_file, tiny_root, tmp_path):
    """The arguments of train.py for the miniature data and the tiny CLIP: two epochs of four steps.

    Called with a method, the name of the output folder, flags and KEY VALUE pairs.
    """

    def make(trainer, name, *arguments, root=tiny_root, **flags):
        given = {
            "root": root,
            "seed": 1,
            "trainer": trainer,
            "output-dir": tmp_path / name,
            "dataset-config-file": CONFIGS / "datasets" / "caltech101.yaml",
            "backbone": tiny_file,
            **{key.replace("_", "-"): value for key, value in flags.items()},
        }
        words = [str(word) for key, value in given.items() for word in (f"--{key}", value)]
        bare = [word for word in arguments if word.startswith("--")]
        pairs = ["DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2", "DATASET.NUM_SHOTS", "2"]
        pairs += ["DATALOADER.TRAIN_X.BATCH_SIZE", "2", "TRAIN.CHECKPOINT_FREQ", "1"]
        return [*words, *bare, *pairs, *[word for word in arguments if word not in bare]]

    return make


@pytest.fixture
def start(monkeypatch):
    """Start a function of survivor.py in a process of its own, forked from one that has PyTorch."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    PROCESSES.set_forkserver_preload(["train", "torch.utils.tensorboard"])
    import survivor

    started = weakref.WeakSet()  # a process that its test has done with gives back its files

    def call(name, *arguments):
        process = PROCESSES.Process(target=getattr(survivor, name), args=arguments)
        process.start()
        started.add(process)
        return process

    yield call
    for process in list(started):
        if process.is_alive():
            process.kill()
        process.join()


@pytest.fixture
def same_end():
    """Assert that two finished runs are one, bit by bit, in all that a checkpoint holds."""

    def compare(one, other):
        ends = []
        for folder in (Path(one), Path(other)):
            path = latest_checkpoint(folder / "prompt_learner")
            ends.append(torch.load(path, weights_only=True))
        _assert_same(*ends, "checkpoint")
        assert (Path(one) / "results.json").exists() == (Path(other) / "results.json").exists()

    return compare


def _assert_same(one, other, where):
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - {"seconds", "config"}:  # the time, and the name of the folder
            _assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            _assert_same(a, b, f"{where}[{number}]")
    else:
        assert one == other, where
