"""The runner at work: processes, kills, two at a time. Real runs on the miniature Caltech101."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark import run as runner_cli
from benchmark.runner import Active, _Bar, progress, slots
from benchmark.worker import BUSY, Call, Outcome, _outcomes, work
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
        runner_cli.main(words)
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


class Sender(list):
    send = list.append


class Alive:
    """A runner that lives forever."""

    def recv(self):
        time.sleep(60)


def test_a_worker_sees_its_gpu_alone_and_leaves_busy_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    call, sender = Call((), tmp_path / "seed1" / "train", True), Sender()
    monkeypatch.setattr(os, "setpgid", lambda *_: None)  # this process stays in its group
    with claim(tmp_path / "seed1"):
        work([call], "3", False, sender, Alive())
    assert sender == [BUSY]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_runs_are_spread_over_the_gpus():
    assert slots(["0", "1"], 5) == ["0", "1", "0", "1", "0"]
    assert slots([None], 2) == [None, None]


def test_prompts_of_another_training_are_not_tested(words, tmp_path, capsys):
    """A quick try lies where the protocol's training belongs."""
    output = tmp_path / "out"
    assert go(words("--seeds", "1", "--only", "train")) == 0
    assert go(words("--seeds", "1", epochs=2)) == 1
    printed = capsys.readouterr().err
    assert "is not finished, or of another configuration" in printed
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


def test_processes_are_forked_before_anybody_asks_for_gpus():
    """Else "Cannot re-initialize CUDA in forked subprocess" ends every run on a GPU."""
    from benchmark.runner import PRELOAD

    code = (
        f"import importlib, os, sys\n"
        f"for name in {PRELOAD!r}: importlib.import_module(name)\n"
        "import torch\n"
        "assert not {'clip', 'train'} & set(sys.modules)\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(torch.cuda._is_in_bad_fork())\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# The progress bar

LOG = "epoch [12/30] batch [5/10] time 0.1 (0.1) data 0.0 (0.0) loss 1.50 (1.2345) loss_ce 1 (1)\n"


def test_the_log_s_last_line_tells_epoch_and_loss(tmp_path):
    assert progress(tmp_path) == (0.0, "")
    (tmp_path / "log.txt").write_text(LOG.replace("12/30", "11/30") + LOG)
    share, text = progress(tmp_path)
    assert share == pytest.approx(11.5 / 30) and text == "epoch 12/30 loss 1.23"
    (tmp_path / "log.txt").write_text(LOG.split(" time")[0])
    assert progress(tmp_path).text == "epoch 12/30"


def test_the_bar_has_tqdm_s_form_and_ignores_what_was_done_before(tmp_path):
    """Of four trainings two were skipped; of the other two one is half done after ten seconds."""
    folders = [tmp_path / str(number) for number in range(4)]
    folders[2].mkdir()
    calls = [Call((), folder, trains=True) for folder in folders]
    with _Bar(calls) as bar:
        outcomes = {folder: Outcome(folder, "skipped") for folder in folders[:2]}
        bar.show(outcomes, [Active(None, calls[2:3], None)])
        (folders[2] / "log.txt").write_text(LOG.replace("12/30", "15/30").replace("5/10", "10/10"))
        bar.show(outcomes, [Active(None, calls[2:3], None)])
        text = bar.bar.format_meter(**{**bar.bar.format_dict, "elapsed": 10.0, "ncols": 90})
    assert text.startswith(" 62%|") and "| 2/4 [00:10<00:30, 20.00s/run" in text
    assert text.endswith(", epoch 15/30 loss 1.23]")


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


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """Calls of four seeds' trainings, and what train.py is asked for: it writes what it should.

    Each of `states` is the checkpoint from which a seed is resumed, None for a new one.
    """
    asked = []

    def make(states, together):
        calls = []
        for seed, checkpoint in enumerate(states, start=1):
            folder = tmp_path / f"seed{seed}" / "train"
            calls.append(Call(("--output-dir", str(folder)), folder, True, group=tmp_path))
            if checkpoint:
                (folder / "prompt_learner").mkdir(parents=True)
                (folder / "prompt_learner" / checkpoint).touch()
                (folder / "prompt_learner" / "checkpoint").write_text(checkpoint)
        monkeypatch.setattr(cli, "main", lambda words: ran([words], finish))
        monkeypatch.setattr(cli, "main_multi_seed", lambda groups: ran(groups, together))
        monkeypatch.setattr("benchmark.worker._prepare", prepared)
        return calls, asked

    def ran(groups, what):
        asked.append([Path(flag_and_folder[1]).parent.name for flag_and_folder in groups])
        what([Path(folder) for _, folder in groups])

    def prepared(call, aside):
        return "resumable" if (call.folder / "prompt_learner").exists() else "new"

    return make


def finish(folders):
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text("{}")


def test_those_at_the_same_step_are_resumed_together(trainings):
    states = ["model.pth.tar-3", None, "model.pth.tar-3", "model.pth.tar-2", None]
    calls, asked = trainings(states, finish)
    outcomes = list(_outcomes(calls, False))
    assert asked == [["seed1", "seed3"], ["seed2", "seed5"], ["seed4"]]
    assert {outcome.folder for outcome in outcomes} == {call.folder for call in calls}
    assert {outcome.kind for outcome in outcomes} == {"finished"}


def test_what_a_group_leaves_unfinished_is_trained_apart(trainings, capsys):
    def fail(folders):
        finish(folders[:1])
        print("train.py: Seed 2: too much.", file=sys.stderr)
        sys.exit(3)

    calls, asked = trainings([None, None, None], fail)
    kinds = [(outcome.folder.parent.name, outcome.kind) for outcome in _outcomes(calls, False)]
    assert kinds == [("seed1", "finished"), ("seed2", "finished"), ("seed3", "finished")]
    assert asked == [["seed1", "seed2", "seed3"], ["seed2"], ["seed3"]]
    printed = capsys.readouterr().err.strip()
    assert printed.endswith(
        ": seed2, seed3 are trained separately. train.py: Seed 2: too much. (exit status 3)"
    )


def test_a_stopped_group_is_stopped(trainings):
    calls, asked = trainings([None, None], lambda _: sys.exit(4))
    kinds = [outcome.kind for outcome in itertools.islice(_outcomes(calls, False), 2)]
    assert kinds == ["stopped", "stopped"] and asked == [["seed1", "seed2"]]


def test_a_group_waits_for_a_seed_that_another_runner_has(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "setpgid", lambda *_: None)  # this process stays in its group
    calls = [Call((), tmp_path / f"seed{s}" / "train", True, group=tmp_path) for s in (1, 2)]
    sender = Sender()
    with claim(tmp_path / "seed2"):
        work(calls, None, False, sender, Alive())
    assert sender == [BUSY]
    with claim(tmp_path / "seed1"):  # it did not keep the other
        pass
