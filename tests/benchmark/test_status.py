"""What the status of an output folder says; many runs, planned and surveyed."""

import json
import os
import socket
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import run, scheduler, status
from benchmark.calls import JOBS, Call, Plan, read_plan, units
from benchmark.failures import Outcome, change_json, record
from experiment.lock import NAME, claim

ROOT = Path(run.__file__).parents[1]
LOG = "epoch [3/4] batch [5/10] time 0.1 (0.1) data 0.0 (0.0) loss 1.50 (1.2345) loss_ce 1 (1)\n"


@pytest.fixture
def output(tmp_path) -> Path:
    """Five seeds of 100 steps, each with a test: done, running, failed, and two that wait."""
    calls = []
    for seed in range(1, 6):
        folder = tmp_path / "base" / f"seed{seed}"
        calls += [Call((), folder / "train", True, steps=100), Call((), folder / "test", False)]
        (folder / "train").mkdir(parents=True)
    Plan(tmp_path, units(calls)).write()
    finish(calls[0].folder, training=30.0, evaluation=10.0)
    finish(calls[1].folder, evaluation=10.0)
    (calls[2].folder / "log.txt").write_text(LOG)
    record(tmp_path, [Outcome(call.folder, "failed", "no disk") for call in calls[4:6]])
    return tmp_path


def finish(folder: Path, training: float = 0.0, evaluation: float = 0.0, **more) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"seconds": {"training": training, "evaluation": evaluation}, **more}
    (folder / "results.json").write_text(json.dumps(content))


def kinds(output: Path) -> dict[str, str]:
    states = status.survey(output)
    return {"/".join(Path(name).parts[-2:]): state.kind for name, state in states.items()}


def test_it_counts_and_says_who_is_at_work_and_what_failed(output, capsys):
    with claim(output / "base" / "seed2"):
        status.main([str(output)])
        printed = capsys.readouterr().out.splitlines()
        found = status.summarize(status.survey(output))
    assert printed[0] == f"{output}: 2 done, 1 running, 5 waiting, 2 failed of 10 runs"
    assert (
        "running  base/seed2/train  process " in printed[3] and socket.gethostname() in printed[3]
    )
    assert printed[3].endswith("epoch 3/4 loss 1.23")
    assert (
        printed[4] == f"failed   base/seed3/train: no disk; see {output}/base/seed3/train/log.txt"
    )
    # 50 seconds for 100 steps with all that belongs to them; 200 steps and 37.5 % are left.
    assert found["seconds_per_training"] == 40
    assert found["seconds_left"] == pytest.approx(50 * 2.375)


def test_seeds_stepped_together_share_the_seconds_of_their_training(output):
    finish(output / "base/seed1/train", training=90.0, evaluation=10.0, together=[1, 2, 3])
    assert status.survey(output)["base/seed1/train"].seconds == 40


def test_as_json_it_says_the_same(output, capsys):
    status.main([str(output), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["done"], found["waiting"], found["failed"]) == (2, 6, 2)
    assert found["seconds_left"] is None  # nobody is at work
    assert found["runs"]["base/seed3/test"]["text"] == "no disk"


def test_a_watch_ends_with_the_last_run(output, monkeypatch, capsys):
    def work(_):
        for call in read_plan(next((output / JOBS).glob("plan-*"))).calls:
            finish(call.folder, evaluation=1.0)
        record(output, [Outcome(call, "finished") for call in output.glob("base/*/*")])

    monkeypatch.setattr(status.time, "sleep", work)
    status.main([str(output), "--watch"])
    assert "10 done, 0 running, 0 waiting, 0 failed" in capsys.readouterr().out


def test_a_folder_without_a_plan_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        status.main([str(tmp_path)])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f"benchmark.status: {tmp_path} holds no plan: benchmark.run writes one.\n"
    )


@pytest.fixture
def queue(monkeypatch, output):
    """Jobs of three seeds, and what Slurm's queue holds of them."""
    jobs = {"base/seed3": "7_0", "base/seed4": "7_1", "base/seed5": "7_2"}
    change_json(output / status.RECORD, lambda record: record.update(jobs))
    states = {"7_0": "RUNNING", "7_1": "PENDING"}
    monkeypatch.setattr(status, "ask", lambda *_: states)
    return states


def test_jobs_wait_in_the_queue_or_are_gone(output, queue):
    states = status.survey(output)
    assert kinds(output)["seed3/train"] == "waiting"  # it failed before, and was submitted again
    assert states["base/seed4/train"].where == "job 7_1, pending"
    gone = states["base/seed5/train"]
    assert (gone.kind, gone.text) == ("failed", "job 7_2 is gone, and left no result")
    assert gone.log == f"{output / JOBS / '7_2'}_0_log.err"


def test_slurm_is_asked_once_for_all_jobs_at_work(output, queue, monkeypatch):
    asked = []
    monkeypatch.setattr(status, "may_be_alive", lambda owner: bool(asked.append(owner["job"])))
    for seed, job in ((3, "7_0"), (5, "7_2")):
        owner = {"host": "n7", "pid": 1, "identity": "x", "job": job, "node": "n7"}
        (output / f"base/seed{seed}" / NAME).write_text(json.dumps(owner))
    states = status.survey(output)
    assert states["base/seed3/train"].where == "job 7_0 on n7"
    assert states["base/seed5/train"].kind == "failed" and set(asked) == {"7_2"}


def test_where_slurm_does_not_answer_nothing_is_called_lost(output, queue, monkeypatch):
    monkeypatch.setattr(status, "ask", lambda *_: None)
    assert kinds(output)["seed5/train"] == "waiting"


def test_what_is_in_the_queue_is_cancelled(output, queue, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(status.subprocess, "run", lambda words, check: called.append(words))
    status.main([str(output), "--cancel"])
    assert called == [["scancel", "7_0", "7_1"]]
    assert capsys.readouterr().out.startswith("cancelled: 7_0, 7_1\n")


def test_a_plan_is_one_file_however_often_it_is_written(output):
    (path,) = (output / JOBS).glob("plan-*.json")
    plan = read_plan(path)
    assert plan.write() == path and read_plan(path) == plan
    assert replace(plan, aside=True).write() != path


# Many runs

MANY = ["base2new", "few_shot", "components", "sensitivity_rank", "few_shot_vit_b32", "logits_loss"]


def test_two_thousand_runs_are_planned_and_surveyed_in_seconds(tmp_path, capsys):
    """Both within three seconds on two cores; the limits here leave room for a busy machine."""
    words = [*MANY, "--root", "data", "--output", str(tmp_path), "--seeds", "1,2,3,4,5,6,7"]
    began = time.process_time()
    args = run.parse_args([*words, "--launcher", "print", "--array", "8"])
    planned = run.plan(args)
    with pytest.raises(ValueError, match="An array holds 1000 jobs, not 1"):
        run.execute(planned, args)
    planning = time.process_time() - began
    assert len(planned) > 2000 and planning < 6
    for _, call in planned:
        finish(call.folder, training=1.0, evaluation=1.0)
    command = [sys.executable, "-m", "benchmark.status", str(tmp_path), "--json"]
    began = os.times().children_user
    found = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert json.loads(found.stdout)["done"] == len(planned)
    assert os.times().children_user - began < 6
    capsys.readouterr()


def test_the_scheduler_s_memory_does_not_grow_with_finished_runs(tmp_path, monkeypatch):
    folders = [tmp_path / f"seed{number}" / "train" for number in range(2000)]
    plan = Plan(tmp_path, [[Call((), folder, True)] for folder in folders])
    sizes = []

    def start(path, number):
        if number in (500, 1999):
            sizes.append(tracemalloc.get_traced_memory()[0])
        line = json.dumps({"folder": str(folders[number]), "kind": "finished"})
        return SimpleNamespace(stdout=[line], returncode=0, wait=lambda: 0)

    monkeypatch.setattr(scheduler, "start", start)
    outcomes = {}
    tracemalloc.start()
    scheduler.Scheduler(plan, range(2000), [None], outcomes).run()
    tracemalloc.stop()
    assert len(outcomes) == 2000
    assert (sizes[1] - sizes[0]) / 1500 < 400  # bytes: its outcome, and no process or thread
