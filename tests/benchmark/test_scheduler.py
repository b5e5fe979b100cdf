"""The scheduler at work: processes, kills, two at once. Real runs on the miniature Caltech101."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import run, scheduler
from benchmark.calls import Call, Plan
from benchmark.scheduler import Scheduler
from benchmark.unit import BUSY
from experiment import cli
from experiment.lock import InUse, claim

ROOT = Path(cli.__file__).parents[1]


@pytest.fixture
def words(tiny_protocol, tiny_root, tiny_pairs, tmp_path):
    def command(*flags: str, output: str = "out", epochs: int = 1) -> list[str]:
        base = [tiny_protocol, "--root", str(tiny_root), "--output", str(tmp_path / output)]
        return [*base, "--trainers", "IVLP", *flags, *tiny_pairs, "OPTIM.MAX_EPOCH", str(epochs)]

    return command


def go(words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        run.main(words)
    return end.value.code


def start(words: list[str]) -> subprocess.Popen:
    """The runner as users start it, in a process of its own."""
    command = [sys.executable, "-m", "benchmark.run", *words]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def results(output: Path) -> dict[str, float]:
    """When each results.json was written."""
    found = sorted(output.rglob("results.json"))
    return {str(p.relative_to(output)): p.stat().st_mtime_ns for p in found}


def trained_epochs(output: Path) -> list[int]:
    """The epochs that all logs of a training tell of, in order."""
    lines = "".join(
        log.read_text()
        for log in sorted(output.rglob("train/log.txt*"), key=lambda p: p.stat().st_mtime)
    ).splitlines()
    return [int(line.split("[")[1].split("/")[0]) for line in lines if line.startswith("epoch [")]


def test_runs_are_made_once_and_a_changed_one_is_refused_or_kept(words, tmp_path, capsys):
    output = tmp_path / "out"
    assert go(words("--seeds", "1")) == 0
    made = results(output)
    assert len(made) == 2
    assert go(words("--seeds", "1")) == 0 and results(output) == made
    assert "2 finished" in capsys.readouterr().err

    assert go(words("--seeds", "1", epochs=2)) == 1 and results(output) == made
    printed = capsys.readouterr().err
    assert "another configuration (OPTIM.MAX_EPOCH 1 there, 2 here)" in printed
    assert "--set-aside" in printed and "2 of 2 runs failed" in printed

    assert go(words("--seeds", "1", "--set-aside", epochs=2)) == 0
    now = results(output)
    assert len(now) == 4 and set(made.values()) < set(now.values())  # the old ones are kept
    assert not (output / "failures.json").exists()


def test_a_failing_run_does_not_stop_the_others(words, tmp_path, capsys):
    """Seed 1's folder cannot be written to: a file stands in its place."""
    output = tmp_path / "out"
    home = output / "caltech101/base/shots_2/IVLP/base2new"
    home.mkdir(parents=True)
    (home / "seed1").mkdir()
    (home / "seed1" / "train").write_text("in the way")
    assert go(words("--jobs", "1")) == 1
    assert len(results(output)) == 2 and all("seed2" in name for name in results(output))
    failures = json.loads((output / "failures.json").read_text())
    assert [name.split("/")[-2:] for name in failures] == [
        ["seed1", "train"],
        ["seed1", "test_new"],
    ]
    assert "is not finished" in failures[f"{home.relative_to(output)}/seed1/test_new"]["reason"]
    printed = capsys.readouterr().err
    assert "2 of 4 runs failed" in printed
    assert "To repeat just these: add --retry-failed" in printed

    (home / "seed1" / "train").unlink()
    assert go(words("--retry-failed")) == 0
    assert "trainings: 1, evaluations: 2" in capsys.readouterr().err
    assert len(results(output)) == 4 and not (output / "failures.json").exists()


def test_a_test_needs_a_finished_training(words, capsys):
    assert go(words("--seeds", "1", "--only", "test")) == 1
    assert "seed1/train is not finished" in capsys.readouterr().err


def wait_for_checkpoint(output: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(output.rglob("checkpoint")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_interrupted_and_repeated_nothing_is_lost_or_done_twice(words, tmp_path):
    """SIGKILL in the middle of a training: it is resumed at its last epoch, once."""
    output = tmp_path / "out"
    flags = ("--seeds", "1", "--jobs", "1")
    first = start(words(*flags, epochs=40))
    wait_for_checkpoint(output)
    first.kill()
    first.wait()
    assert not results(output)
    assert go(words(*flags, epochs=40)) == 0
    assert len(results(output)) == 2
    epochs = trained_epochs(output)
    # One epoch may be repeated where it was logged, but not yet saved.
    assert set(epochs) == set(range(1, 41)) and len(epochs) <= 41


def test_two_runners_on_one_folder_share_the_work(words, tmp_path):
    output = tmp_path / "out"
    other = start(words("--jobs", "1", epochs=10))
    wait_for_checkpoint(output)
    assert go(words("--jobs", "2", epochs=10)) == 0
    assert other.wait(timeout=120) == 0, other.stderr.read()
    assert len(results(output)) == 4
    assert sorted(trained_epochs(output)) == sorted([*range(1, 11)] * 2)
    assert not list(output.rglob("log.txt-*"))  # no run was begun twice


def test_a_unit_that_another_process_has_is_named_once(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "seed1" / "train"
    statuses = [BUSY, BUSY, BUSY, 0]

    def start(*_):
        status = statuses.pop(0)
        lines = [] if status else [json.dumps({"folder": str(folder), "kind": "finished"})]
        return SimpleNamespace(stdout=lines, returncode=status, wait=lambda: status)

    monkeypatch.setattr(scheduler, "start", start)
    monkeypatch.setattr(scheduler, "RETRY", 0.0)
    outcomes = {}
    Scheduler(Plan(tmp_path, [[Call((), folder, True)]]), [0], [None], outcomes).run()
    assert outcomes[folder].kind == "finished" and not statuses
    assert capsys.readouterr().err.count("waiting for seed1: another process has it") == 1


def test_an_interrupted_runner_says_how_to_resume(words, tmp_path):
    runner = start(words("--seeds", "1", epochs=500))
    wait_for_checkpoint(tmp_path)
    runner.send_signal(signal.SIGTERM)
    printed = runner.communicate(timeout=60)[1]
    assert runner.returncode == 130
    assert "Interrupted. To resume, repeat the command." in printed
    assert not results(tmp_path / "out")


def test_a_folder_is_claimed_once(tmp_path):
    refused = pytest.raises(InUse, match="is in use by the run of process")
    with claim(tmp_path), refused, claim(tmp_path):
        pytest.fail("it was claimed twice")
    with claim(tmp_path):
        pass


SPY = """
import os, sys
from importlib.abc import MetaPathFinder
class Spy(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "clip" and "benchmark.unit" in sys.orig_argv:
            with open(os.environ["SPY"], "a") as file:
                print(os.environ.get("CUDA_VISIBLE_DEVICES"), file=file)
sys.meta_path.insert(0, Spy())
"""


def test_every_process_sees_its_gpu_alone_before_it_asks_for_any(words, tmp_path, monkeypatch):
    """As users call it; clip asks for GPUs when it is imported."""
    (tmp_path / "sitecustomize.py").write_text(SPY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setenv("SPY", str(tmp_path / "seen"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5")
    runner = start(words("--gpus", "3,5"))
    assert runner.wait(timeout=120) == 0, runner.stderr.read()
    assert sorted((tmp_path / "seen").read_text().split()) == ["3", "5"]


@pytest.mark.parametrize(
    ("visible", "jobs", "places"),
    [("0,1", "5", ["0", "1", "0", "1", "0"]), ("", "2", [None, None])],
)
def test_runs_are_spread_over_the_gpus(words, monkeypatch, visible, jobs, places):
    seen = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    stub = SimpleNamespace(run=lambda: None)
    monkeypatch.setattr(run, "Scheduler", lambda *given: seen.extend(given[2]) or stub)
    go(words("--jobs", jobs))
    assert seen == places


def test_prompts_of_another_training_are_not_tested(words, tmp_path, capsys):
    """A quick try lies where the protocol's training belongs."""
    output = tmp_path / "out"
    assert go(words("--seeds", "1", "--only", "train")) == 0
    assert go(words("--seeds", "1", epochs=2)) == 1
    printed = capsys.readouterr().err
    assert "or of another configuration: train it first, with the same settings" in printed
    assert [Path(name).parent.name for name in results(output)] == ["train"]


def test_what_was_tested_before_a_new_training_is_tested_again(words, tmp_path):
    """The training was redone by hand, with --overwrite: its earlier test is set aside."""
    output = tmp_path / "out"
    assert go(words("--seeds", "1")) == 0
    training = next(output.rglob("train/results.json"))
    os.utime(training)
    assert go(words("--seeds", "1")) == 0
    tests = sorted(output.rglob("test_new*/results.json"))
    assert len(tests) == 2 and tests[0].stat().st_mtime > training.stat().st_mtime


def test_a_run_that_has_just_begun_by_hand_is_left_alone(words, tmp_path, capsys):
    """Without a checkpoint yet, it looks like what an interrupted run left: its lock tells."""

    output = tmp_path / "out"
    folder = output / "caltech101/base/shots_2/IVLP/base2new/seed1/train"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("SEED: 1")
    with claim(folder):
        assert go(words("--seeds", "1", "--only", "train")) == 1
        assert (folder / "config.yaml").exists()
    assert "in use by the run of process" in capsys.readouterr().err


# Seeds together


def test_seeds_trained_together_are_interrupted_and_resumed(words, tmp_path):
    """One process for both; what it leaves is finished, together or apart, nothing done twice."""
    output = tmp_path / "out"
    first = start(words("--together", epochs=40))
    wait_for_checkpoint(output)
    first.kill()
    first.wait()
    assert not results(output)
    assert go(words("--together", epochs=40)) == 0
    made = results(output)
    assert len(made) == 4
    for path in output.rglob("train/results.json"):
        epochs = trained_epochs(path.parents[1])
        assert set(epochs) == set(range(1, 41)) and len(epochs) <= 42
    assert go(words(epochs=40)) == 0 and results(output) == made  # the same runs as without


def test_results_say_that_seeds_went_together(words, tmp_path):
    assert go(words("--together")) == 0
    found = [json.loads(p.read_text()) for p in sorted((tmp_path / "out").rglob("results.json"))]
    assert [(r["seed"], r.get("together")) for r in found] == [
        (1, None), (1, [1, 2]), (2, None), (2, [1, 2])
    ]  # fmt: skip
