"""Units on a real Slurm that the tests start themselves: what ends otherwise ends as at home."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmark import run, slurm, status
from benchmark.calls import JOBS
from benchmark.failures import change_json
from experiment.lock import read_owner
from tests.benchmark import cluster

EPOCHS = 100
HOME = Path("caltech101/base/shots_2/IVLP/base2new")
FULL = os.environ.get("SURVIVAL") == "full"
needs_slurm = pytest.mark.skipif(bool(cluster.missing()), reason=cluster.missing())


@pytest.fixture
def words(tiny_protocol, tiny_root, tiny_pairs, tmp_path):
    def command(output: str, *flags: str, epochs: int = 1) -> list[str]:
        base = [tiny_protocol, "--root", str(tiny_root), "--output", str(tmp_path / output)]
        base += ["--trainers", "IVLP", "--gpus-per-job", "0", *flags]
        return [*base, *tiny_pairs, "OPTIM.MAX_EPOCH", str(epochs), "TRAIN.PRINT_FREQ", "1"]

    return command


def go(words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        run.main(words)
    return end.value.code


@pytest.fixture
def slurm_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("MMLOP_CACHE", "off")
    with cluster.running(tmp_path / "slurm"):
        yield


def wait_for(output: Path, condition, seconds: float = 300) -> dict:
    """Wait until the states of all runs are as wanted."""
    end = time.monotonic() + seconds
    while not condition(states := status.survey(output)):
        if time.monotonic() > end:
            logs = "".join(path.read_text()[-2000:] for path in output.rglob("jobs/*_log.*"))
            pytest.fail("\n".join(status.show(output, states)) + logs)
        time.sleep(0.5)
    return states


def over(states) -> bool:
    return all(state.kind in ("done", "failed") for state in states.values())


def figures(output: Path) -> dict:
    """Everything that two runs must have in common: counts, and the prompts to the last bit."""
    found = {}
    for path in output.rglob("results.json"):
        record = json.loads(path.read_text())
        name = str(path.parent.relative_to(output))
        found[name] = (record["accuracy"], record["correct"], record["total"], record["seed"])
        for prompts in path.parent.rglob(f"model.pth.tar-{record['epochs']}"):
            state = torch.load(prompts, weights_only=True)["state_dict"]
            found[f"{name}, prompts"] = {key: value.tolist() for key, value in state.items()}
    return found


def steps(output: Path) -> list[tuple[str, str]]:
    """The steps that all logs of a training tell of: epoch and batch."""
    logs = sorted(output.rglob("train/log.txt*"), key=lambda path: path.stat().st_mtime)
    found = [re.findall(r"^epoch \[(\d+)/.*?batch \[(\d+)/", p.read_text(), re.M) for p in logs]
    return sum(found, [])


@needs_slurm
def test_jobs_give_the_figures_of_this_machine(words, slurm_cluster, tmp_path, capsys):
    """One by submitit, one by the script for sbatch; what is in the queue stays there once."""
    pytest.importorskip("submitit")
    output = tmp_path / "there"
    assert go(words("there", "--seeds", "1", "--launcher", "slurm")) == 0
    assert re.search(r"^submitted 1 jobs, 1 to 1$", capsys.readouterr().out, re.MULTILINE)
    assert go(words("there", "--seeds", "1", "--launcher", "slurm")) == 0
    assert "1 are in the queue already" in capsys.readouterr().err
    assert go(words("there", "--seeds", "2", "--launcher", "print")) == 0
    subprocess.run(["sbatch"], input=capsys.readouterr().out, text=True, check=True)
    assert go(words("here")) == 0
    states = wait_for(output, lambda states: all(s.kind == "done" for s in states.values()))
    assert len(states) == 4 and figures(output) == figures(tmp_path / "here")
    assert not (output / "failures.json").exists()
    logs = [path.name for path in (output / JOBS).glob("*.*[gtr]")]
    assert {"1_0_log.out", "2_0.log"} <= set(logs)


@needs_slurm
@pytest.mark.skipif(not FULL, reason="takes minutes: SURVIVAL=full")
def test_whatever_ends_a_job_the_figures_are_those_of_this_machine(
    words, slurm_cluster, tmp_path, monkeypatch, capsys
):
    """Requeued, preempted, killed, cancelled, out of time: nothing is lost or done twice."""
    monkeypatch.setattr(slurm, "NOTICE", 20)
    output = tmp_path / "there"
    assert go(words("here", "--seeds", "1,2,3,4,5,6", epochs=EPOCHS)) == 0

    def submit(*flags: str) -> list[str]:
        one_at_a_time = ("--launcher", "slurm", "--array", "1")
        assert go(words("there", *one_at_a_time, *flags, epochs=EPOCHS)) == 0
        return [job for job, _ in status.submitted(output).values()]

    def process(seed: int) -> int:
        """Wait for a seed's first epochs; return its process."""
        folder, end = output / HOME / f"seed{seed}", time.monotonic() + 300
        while len(steps(folder)) < 10:
            assert time.monotonic() < end, f"seed {seed} does not begin"
            time.sleep(0.05)
        return read_owner(folder / ".lock")["pid"]

    jobs = submit("--seeds", "1,2,3,4,5")
    process(1)
    subprocess.run(["scontrol", "requeue", jobs[0]], check=True)
    os.kill(process(2), signal.SIGKILL)
    process(3)
    subprocess.run(["scancel", jobs[2]], check=True)
    process(4)
    subprocess.run(["scancel", "--signal=TERM", jobs[3]], check=True)  # as a preemption begins
    os.kill(_parent(process(5)), signal.SIGKILL)
    *_, last = submit("--seeds", "6", "--time", "3")
    os.kill(slow := process(6), signal.SIGSTOP)  # until its time is nearly over
    log = output / JOBS / f"{last}_0_log.err"
    cluster.wait_for(lambda: log.exists() and "timed-out" in log.read_text(), "no time limit", 240)
    os.kill(slow, signal.SIGCONT)

    states = wait_for(output, over)
    failed = {run.split("/")[-2]: s.text for run, s in states.items() if s.kind == "failed"}
    print(failed)
    assert set(failed) == {"seed2", "seed3", "seed5"}
    assert "ended from outside (exit code -9)" in failed["seed2"]
    assert "is gone, and left no result" in failed["seed3"]
    submit("--seeds", "1,2,3,4,5,6", "--retry-failed")
    assert "submitted 3 jobs" in capsys.readouterr().out
    wait_for(output, lambda states: all(s.kind == "done" for s in states.values()))
    assert figures(output) == figures(tmp_path / "here")
    for seed in range(1, 7):
        here, there = (
            steps(folder / HOME / f"seed{seed}") for folder in (tmp_path / "here", output)
        )
        print(f"seed {seed}: {len(here)} steps here, {len(there)} there")
        assert set(there) == set(here)
        assert len(there) - len(here) <= len(here) / EPOCHS * (seed == 2)  # an unsaved epoch


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# Without a Slurm


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("90", 90),
        ("4:00:00", 240),
        ("1-02:30:00", 1590),
        ("0:45:59", 45),
        ("1-12", 2160),
        ("1-12:30", 2190),
    ],
)
def test_time_limits_are_slurm_s(text, limit):
    assert slurm.minutes(text) == limit


def test_the_script_is_an_array_of_what_is_left(words, tmp_path, capsys):
    extra = ("--partition", "gpu", "--gpus-per-job", "2", "--sbatch", "mem=32G")
    extra += ("--sbatch", "exclude=n1,n2", "--sbatch", "account=a b", "--sbatch", "exclusive")
    assert go(words("out", "--launcher", "print", "--array", "3", *extra)) == 0
    lines = capsys.readouterr().out.splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    assert {"array=0-1%3", "partition=gpu", "gpus-per-node=2", "mem=32G", "account='a b'"} < set(
        options
    )
    assert {"exclude=n1,n2", "exclusive"} < set(options)
    assert {"requeue", "signal=B:USR2@120", "time=240", f"chdir={Path.cwd()}"} < set(options)
    assert "units=(0 1)" in lines
    (plan,) = (tmp_path / "out" / JOBS).glob("plan-*.json")
    assert any(f"-m benchmark.unit {plan} ${{units[$SLURM_ARRAY_TASK_ID]}} &" in x for x in lines)
    subprocess.run(["bash", "-n"], input="\n".join(lines), text=True, check=True)


def test_where_nothing_is_left_no_script_is_printed(words, tmp_path, capsys):
    record = {f"{HOME}/seed{seed}": f"7_{seed}" for seed in (1, 2)}
    change_json(tmp_path / "out" / status.RECORD, lambda jobs: jobs.update(record))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(status, "ask", lambda *_: {"7_1": "RUNNING", "7_2": "PENDING"})
        assert go(words("out", "--launcher", "print")) == 0
    printed = capsys.readouterr()
    assert not printed.out and "nothing is left to submit" in printed.err


def test_a_limit_that_leaves_no_time_to_save_is_refused(words, capsys):
    assert go(words("out", "--launcher", "slurm", "--time", "3")) == 2
    assert "--time: a job is asked to save 120 seconds before: give" in capsys.readouterr().err


class Executor:
    """Stands in for submitit's, where there is no Slurm."""

    def __init__(self, folder, max_num_timeout) -> None:
        self.folder = folder

    def update_parameters(self, **_) -> None:
        raise RuntimeError("sbatch: error:\n invalid partition specified")


def test_what_slurm_refuses_ends_in_its_words(words, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(SlurmExecutor=Executor))
    assert go(words("out", "--launcher", "slurm", "--partition", "gpuu")) == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.endswith("Slurm takes no jobs: sbatch: error: invalid partition specified")


def test_without_submitit_the_script_is_named(words, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert go(words("out", "--launcher", "slurm")) == 2
    assert "needs submitit: pip install submitit, or --launcher print" in capsys.readouterr().err
