"""What goes wrong with the machine: what is shown, the exit status, the state left behind."""

import contextlib
import errno
import fcntl
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from experiment import cli
from experiment import lock as locks
from experiment.exit_status import explain
from trainers.base import PromptTrainer

NOT_KEPT = ("DATALOADER.CACHE_MB", "0")  # every image is opened again


@pytest.fixture
def ends(capsys):
    """Run, expecting an exit status; returns the one line that was shown."""

    def call(status, arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        shown = capsys.readouterr().err.strip()
        assert end.value.code == status, shown
        assert len(shown.splitlines()) == 1 and shown.startswith("train.py: "), shown
        return shown

    return call


@pytest.fixture
def resumes(words, same_end, tmp_path):
    """Assert that the run "cut" resumes, and ends like one that was never disturbed."""

    def call(*arguments, **flags):
        cli.main(words("CoOp", "whole", *arguments))
        cli.main(words("CoOp", "cut", *arguments, **{"resume": tmp_path / "cut", **flags}))
        same_end(tmp_path / "whole", tmp_path / "cut")

    return call


def before_epoch(monkeypatch, number, action):
    """Do something before the epoch with this number, from 1."""
    real = PromptTrainer.before_epoch

    def acting(self):
        if self.epoch + 1 == number:
            action()
        real(self)

    monkeypatch.setattr(PromptTrainer, "before_epoch", acting)


def files(folder):
    return {path.name for path in (folder / "prompt_learner").iterdir()}


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        (errno.ENOSPC, "No space left on device", "free some space"),
        (errno.EACCES, "Permission denied", "make it accessible, or use another folder"),
        (errno.EROFS, "Read-only file system", "make it writable, or use another folder"),
    ],
)
def test_a_checkpoint_that_cannot_be_written(
    words, ends, resumes, tmp_path, monkeypatch, code, reason, advice
):
    def failing(_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        before_epoch(patch, 2, lambda: patch.setattr(os, "fsync", failing))
        shown = ends(5, words("CoOp", "cut"))
    folder = tmp_path / "cut" / "prompt_learner"
    assert f"{reason} ({folder / 'model.pth.tar-2'}): {advice}. Saved is " in shown
    assert f"Saved is {folder / 'model.pth.tar-1'}; resume with: python train.py --resume" in shown
    assert files(tmp_path / "cut") == {"checkpoint", "model.pth.tar-1"}
    assert not (tmp_path / "cut" / "results.json").exists()
    if code == errno.ENOSPC:  # the others leave the same state
        resumes()


def test_a_read_only_output_folder(words, ends, tmp_path):
    (tmp_path / "cut").mkdir(mode=0o555)
    if os.access(tmp_path / "cut", os.W_OK):
        pytest.skip("this user, root for one, may write everywhere")
    shown = ends(5, words("CoOp", "cut"))
    assert "Permission denied" in shown and "use another folder" in shown
    assert not list((tmp_path / "cut").iterdir())


def test_an_image_that_goes_missing(words, ends, tiny_root, tmp_path, monkeypatch):
    """Found when it is opened; put back, the run resumes."""
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root)
    images = sorted(root.glob("caltech-101/*/face/train_*.jpg"))
    arguments = {"root": root}
    pairs = ("DATASET.NUM_SHOTS", "-1", *NOT_KEPT)
    with monkeypatch.context() as patch:
        before_epoch(patch, 2, images[0].unlink)
        shown = ends(5, words("CoOp", "cut", *pairs, **arguments))
    assert f"train.py: No image at {images[0]}. Check DATASET.ROOT" in shown
    assert "model.pth.tar-1; resume with: python train.py --resume" in shown
    refused = ends(2, words("CoOp", "cut", *pairs, **arguments, resume=tmp_path / "cut"))
    assert f"the first is {images[0]}" in refused
    shutil.copy(images[1], images[0])
    cli.main(words("CoOp", "cut", *pairs, **arguments, resume=tmp_path / "cut"))
    assert (tmp_path / "cut" / "results.json").exists()


def test_an_image_that_a_loader_s_process_misses(words, ends, tiny_root, tmp_path, monkeypatch):
    """Its own message comes, not the traceback that the loader wraps it in."""
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root)
    before_epoch(monkeypatch, 1, lambda: shutil.rmtree(root))
    shown = ends(5, words("CoOp", "cut", "DATALOADER.NUM_WORKERS", "1", *NOT_KEPT, root=root))
    assert shown.startswith(f"train.py: No image at {root}") and "Traceback" not in shown


def test_a_data_folder_that_goes_away(words, ends, resumes, tiny_root, tmp_path, monkeypatch):
    """And comes back elsewhere."""
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root)
    with monkeypatch.context() as patch:
        before_epoch(patch, 2, lambda: shutil.rmtree(root))
        shown = ends(5, words("CoOp", "cut", *NOT_KEPT, root=root))
    assert f"No image at {root}" in shown and "model.pth.tar-1; resume with" in shown
    refused = ends(2, words("CoOp", "cut", *NOT_KEPT, root=root, resume=tmp_path / "cut"))
    assert "which is not a folder; set it with --root" in refused
    resumes(root=tiny_root)


def test_an_output_folder_that_goes_away(words, ends, tmp_path, monkeypatch):
    """Its log is open and still there for the process; a checkpoint needs the folder."""
    folder = tmp_path / "cut"

    def replace():
        shutil.rmtree(folder)
        folder.write_text("no folder any more")

    with monkeypatch.context() as patch:
        before_epoch(patch, 2, replace)
        shown = ends(5, words("CoOp", "cut"))
    assert "Not a directory" in shown or "File exists" in shown
    assert "Nothing was saved yet" in shown


def test_other_training_images_than_at_the_beginning(words, ends, tmp_path):
    cli.main(words("CoOp", "cut", seed=-1))
    (tmp_path / "cut" / "results.json").unlink()
    shown = ends(2, words("CoOp", "cut", seed=-1, resume=tmp_path / "cut"))
    assert "was trained on other images" in shown and "without a seed every run draws" in shown


def test_a_damaged_checkpoint(words, ends, resumes, tmp_path, monkeypatch):
    """Refused before data or models are loaded, naming the one before; deleted, the run resumes."""
    with monkeypatch.context() as patch:
        before_epoch(patch, 3, lambda: 1 / 0)
        ends(1, words("CoOp", "cut", "OPTIM.MAX_EPOCH", "3"))
    path = tmp_path / "cut" / "prompt_learner" / "model.pth.tar-2"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    arguments = words("CoOp", "cut", "OPTIM.MAX_EPOCH", "3", resume=tmp_path / "cut")
    for damaged in (content, content[:-100], content[:999], b""):
        path.write_bytes(damaged)
        with monkeypatch.context() as patch:
            patch.setattr(cli, "build_trainer", lambda _: pytest.fail("models were loaded"))
            shown = ends(2, arguments)
        assert "cut short" in shown
        assert (
            "one before it, model.pth.tar-1, is whole: evaluate that (--load-epoch 1, or" in shown
        )
        assert shown.endswith("or delete model.pth.tar-2 to resume from it.")
    path.unlink()
    resumes("OPTIM.MAX_EPOCH", "3")


def test_a_loss_that_is_no_number(words, ends, tmp_path, monkeypatch):
    """Step, terms and rate are shown; what was saved before stays."""
    real = PromptTrainer.loss_terms

    def scripted(self, images, labels):
        terms, logits = real(self, images, labels)
        if (self.epoch, self.batch_idx) == (1, 2):
            terms["loss_other"] = terms["loss_ce"] * float("nan")
        return terms, logits

    monkeypatch.setattr(PromptTrainer, "loss_terms", scripted)
    shown = ends(3, words("CoOp", "cut"))
    assert "Loss is infinite or NaN ([nan]) at epoch 2, batch 3" in shown
    terms = shown.partition("Terms of the loss: ")[2].partition(";")[0]
    assert [word.split()[0] for word in terms.split(", ")] == ["loss_ce", "loss_other"]
    assert "loss_other nan; learning rate 0.00" in shown
    assert files(tmp_path / "cut") == {"checkpoint", "model.pth.tar-1"}


def test_prompts_that_are_no_numbers_are_not_saved(words, ends, tmp_path, monkeypatch):
    real = PromptTrainer.after_epoch

    def spoiling(self):
        if self.epoch == 1:
            next(self.model.prompt_learner.parameters()).data.view(-1)[0] = float("inf")
        real(self)

    monkeypatch.setattr(PromptTrainer, "after_epoch", spoiling)
    shown = ends(3, words("IVLP", "cut"))
    assert "holds infinite or NaN values in epoch 2, so it was not saved" in shown
    assert files(tmp_path / "cut") == {"checkpoint", "model.pth.tar-1"}


def test_an_error_that_nobody_foresaw(words, ends, monkeypatch, capsys):
    """One sentence, and the traceback only for who asks for it."""
    monkeypatch.setattr(PromptTrainer, "after_epoch", lambda self: [][1])
    shown = ends(1, words("CoOp", "a"))
    assert "IndexError: list index out of range (not foreseen; --debug shows its place)." in shown
    with pytest.raises(IndexError):
        cli.main(words("CoOp", "b", "--debug"))


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\n\nMore."),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`."),
    ],
)
def test_memory_that_is_used_up(words, ends, monkeypatch, error):
    def exhausted(*_):
        raise error

    monkeypatch.setattr(PromptTrainer, "forward_backward", exhausted)
    shown = ends(5, words("CoOp", "cut"))
    assert f"The memory is used up ({str(error).splitlines()[0]}" in shown
    assert "lower DATALOADER.TRAIN_X.BATCH_SIZE. Nothing was saved yet; run again: " in shown


def test_a_loader_s_process_that_is_killed(start, words, tmp_path):
    """In its own process: PyTorch raises its error again whenever another child process ends."""
    arguments = words("CoOp", "cut", "DATALOADER.NUM_WORKERS", "1")
    process = start("run_without_loader", arguments, str(tmp_path / "shown"))
    process.join()
    shown = (tmp_path / "shown").read_text()
    assert process.exitcode == 5, shown
    assert "DataLoader worker" in shown and "lower DATALOADER.NUM_WORKERS" in shown


def test_a_loader_s_connection_that_breaks_first():
    """Now and then the next batch is asked for before PyTorch knows that the process is gone."""
    near, far = multiprocessing.Pipe()
    far.close()
    with pytest.raises(EOFError) as broken:
        near.recv()
    status, shown = explain(broken.value, running=True)
    assert status == 5
    assert "DataLoader worker ended" in shown and "lower DATALOADER.NUM_WORKERS" in shown
    status, shown = explain(ConnectionResetError(errno.ECONNRESET, "by a disk"), running=True)
    assert status == 5 and "DataLoader" not in shown


def test_a_clock_that_is_set_back(words, resumes, tmp_path, monkeypatch):
    """An hour, within the run and between it and its resumption: seconds and order are right."""
    real, back = time.time, []
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() - 3600 * len(back))
        before_epoch(patch, 2, lambda: back.append(1))
        cli.main(words("CoOp", "cut"))
        seconds = json.loads((tmp_path / "cut" / "results.json").read_text())["seconds"]
        assert 0 < seconds["training"] < 600 and 0 < seconds["evaluation"] < 600
        folder = tmp_path / "cut" / "prompt_learner"
        (tmp_path / "cut" / "results.json").unlink()
        (folder / "model.pth.tar-2").unlink()
        os.utime(folder / "model.pth.tar-1", (real() + 9999, real() + 9999))
        back.append(1)
        resumes()


# Two runs and one folder


def test_two_runs_started_together(start, words, tmp_path):
    """One gets the folder and finishes; the other says who has it, and touches nothing."""
    context = multiprocessing.get_context("forkserver")
    for attempt in range(5 if os.environ.get("SURVIVAL") == "full" else 1):
        barrier = context.Barrier(2)
        shown = [tmp_path / f"shown{attempt}{n}" for n in range(2)]
        arguments = words("CoOp", f"shared{attempt}", "OPTIM.MAX_EPOCH", "1")
        runs = [start("run_after", barrier, arguments, str(path)) for path in shown]
        for process in runs:
            process.join()
        printed = {
            process.exitcode: path.read_text() for process, path in zip(runs, shown, strict=True)
        }
        assert sorted(printed) == [0, 2], printed
        folder = tmp_path / f"shared{attempt}"
        assert f"Output folder {folder} is in use by the run of process " in printed[2]
        assert (folder / "results.json").exists() and not (folder / ".lock").exists()
        assert len(list(folder.glob("log.txt*"))) == 1


def lock(folder, **owner):
    folder.mkdir(parents=True, exist_ok=True)
    me = {"host": socket.gethostname(), "pid": os.getpid(), "identity": locks.identity(os.getpid())}
    (folder / ".lock").write_text(json.dumps({**me, **owner}))


def test_a_lock_whose_owner_is_dead_is_taken_over(tmp_path):
    """The number of a process may be another's by now, or there may be nothing in the file."""
    folder = tmp_path / "run"
    lock(folder, pid=2**22 + 1, identity="boot 1")
    with locks.claim(folder):
        assert json.loads((folder / ".lock").read_text())["pid"] == os.getpid()
    lock(folder, identity="boot 1")  # our own number, of a process before us
    with locks.claim(folder):
        pass
    (folder / ".lock").write_text("")  # killed over it
    with locks.claim(folder):
        pass
    assert not (folder / ".lock").exists()


def test_a_lock_whose_owner_nobody_waited_for_is_taken_over(tmp_path):
    """A process that was killed keeps its number until its parent waits for it."""
    owner = subprocess.Popen(["sleep", "60"])
    lock(tmp_path / "run", pid=owner.pid, identity=locks.identity(owner.pid))
    with pytest.raises(locks.InUse), locks.claim(tmp_path / "run"):
        pass
    owner.kill()
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays
    with locks.claim(tmp_path / "run"):
        pass
    owner.wait()


def test_a_lock_whose_owner_lives(words, ends, tmp_path):
    lock(tmp_path / "run")
    shown = ends(2, words("CoOp", "run"))
    assert f"is in use by the run of process {os.getpid()}: wait for it, end it, or pass" in shown
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock"]


def test_a_lock_of_another_machine(words, ends, tmp_path):
    """Nobody here can tell whether its owner lives; the message says what to look at and delete."""
    lock(tmp_path / "run", host="node17", pid=4)
    shown = ends(2, words("CoOp", "run"))
    assert "is in use by process 4 on node17" in shown
    assert f"if it is not, delete {tmp_path / 'run' / '.lock'}; else pass another" in shown
    (tmp_path / "run" / ".lock").unlink()
    cli.main(words("ZeroshotCLIP", "run"))


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Files that are created exclusively are all that is needed."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: pytest.fail("it was locked"))
    monkeypatch.setattr(fcntl, "lockf", lambda *_: pytest.fail("it was locked"))
    with locks.claim(tmp_path), pytest.raises(ValueError, match="is in use"), locks.claim(tmp_path):
        pass


CLAIMANT = """
import random, sys, time
from pathlib import Path
from experiment import lock
from experiment.lock import InUse, claim
examine = lock.may_be_alive
def slowly(owner):
    alive = examine(owner)
    time.sleep(random.random() / 50)
    return alive
lock.may_be_alive = slowly
folder, begin = Path(sys.argv[1]), float(sys.argv[2])
for attempt in range(20):
    while time.monotonic() < begin + attempt / 20:
        pass
    try:
        with claim(folder / str(attempt)):
            entered = time.monotonic()
            time.sleep(0.01)
            print(attempt, entered, time.monotonic())
    except InUse:
        pass
"""


def test_a_dead_lock_is_taken_over_by_one_at_a_time(tmp_path):
    """All see the same dead owner; whoever is slow removes no live lock."""
    for attempt in range(20):
        lock(tmp_path / str(attempt), pid=2**22 + 1, identity="boot 1")
    command = [sys.executable, "-c", CLAIMANT, str(tmp_path), str(time.monotonic() + 1)]
    root = Path(cli.__file__).parents[1]
    claimants = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) for _ in range(6)]
    held = defaultdict(list)
    for process in claimants:
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        for attempt, *times in map(str.split, printed.decode().splitlines()):
            held[attempt].append(tuple(map(float, times)))
    assert len(held) == 20
    for times in map(sorted, held.values()):
        assert all(left <= entered for (_, left), (entered, _) in itertools.pairwise(times))
    assert not list(tmp_path.glob("*/.lock*"))


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Stands in for Slurm's, on a cluster where a run's node is another one than this."""

    def answers(printed: str = "", error: str = "") -> None:
        path = tmp_path / "bin" / "squeue"
        path.parent.mkdir(exist_ok=True)
        status = 1 if error else 0
        path.write_text(f"#!/bin/sh\necho '{error}' >&2\nprintf '{printed}'\nexit {status}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return answers


@pytest.mark.parametrize(
    ("printed", "error", "taken"),
    [
        ("", "", True),  # the job is requeued, or runs on another node
        ("", "slurm_load_jobs error: Invalid job id specified", True),
        ("12_3 RUNNING", "", False),
        ("", "slurm_load_jobs error: Unable to contact slurm controller", False),
    ],
)
def test_the_lock_of_a_node_that_died_is_recognised_through_slurm(
    tmp_path, squeue, printed, error, taken
):
    lock(tmp_path / "run", host="node17", pid=4, job="12_3", node="node17")
    squeue(printed, error)
    expected = contextlib.nullcontext() if taken else pytest.raises(locks.InUse, match="node17")
    with expected, locks.claim(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / ".lock").read_text())["host"] != "node17"


def test_a_lock_names_the_job_of_its_owner(tmp_path, monkeypatch):
    for name, value in (("ARRAY_JOB_ID", "12"), ("ARRAY_TASK_ID", "3"), ("JOB_ID", "15")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURMD_NODENAME", "node17")
    with locks.claim(tmp_path):
        owner = locks.read_owner(tmp_path / ".lock")
    assert (owner["job"], owner["node"], owner["pid"]) == ("12_3", "node17", os.getpid())
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID")
    assert locks.slurm_job() == "15"


# What an output folder holds already


def test_another_configuration_is_refused_with_all_that_differs(words, ends, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        before_epoch(patch, 2, lambda: 1 / 0)
        ends(1, words("CoOp", "cut"))
    here = {"resume": tmp_path / "cut", "seed": 2}
    pairs = ("DATALOADER.NUM_WORKERS", "3", "TRAIN.PRINT_FREQ", "1", "OPTIM.LR", "0.1")
    moved = ("TRAINER.COOP.CLASS_TOKEN_POSITION", "front")
    shown = ends(2, words("CoOp", "cut", *pairs, *moved, **here))
    assert f"The run in {tmp_path / 'cut'} has " in shown
    for differing in (
        "SEED 1, and this one 2",
        "DATALOADER.NUM_WORKERS 0, and this one above 0",
        "OPTIM.LR 0.002, and this one 0.1",
        "TRAINER.COOP.CLASS_TOKEN_POSITION end, and this one front",
    ):
        assert differing in shown
    assert "PRINT_FREQ" not in shown  # which changes no number
    assert shown.count("and this one") == 4


def test_a_finished_run_is_finished(words, ends, tmp_path):
    cli.main(words("CoOp", "run"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("model*")}
    shown = ends(2, words("CoOp", "run", resume=tmp_path / "run"))
    assert "is finished: its figures are in results.json" in shown
    shown = ends(2, words("CoOp", "run"))
    assert "holds a run already" in shown and "or --overwrite to delete it and begin again" in shown
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("model*")}


def test_overwrite_is_the_word(words, ends, tmp_path):
    """It deletes what a run writes and nothing else, and only where a run is."""
    folder = tmp_path / "run"
    cli.main(words("CoOp", "run"))
    (folder / "notes.txt").write_text("mine")
    (folder / "prompt_learner" / "model-best.pth.tar").write_text("of the run before")
    cli.main(words("CoOp", "run", "--overwrite", "OPTIM.MAX_EPOCH", "1"))
    assert files(folder) == {"checkpoint", "model.pth.tar-1"}
    assert json.loads((folder / "results.json").read_text())["epochs"] == 1
    assert (folder / "notes.txt").read_text() == "mine"

    shown = ends(2, words("CoOp", "run", "--overwrite", resume=folder))
    assert "--resume resumes a training run: drop it, or --overwrite" in shown
    shown = ends(2, words("CoOp", "run", "--eval-only", "--overwrite", model_dir=folder))
    assert "holds the prompts to evaluate: pass another --output-dir" in shown
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("")
    shown = ends(2, words("CoOp", "home", "--overwrite"))
    assert "holds no run that --overwrite could replace (thesis.tex)" in shown
    assert (tmp_path / "home" / "thesis.tex").exists()


def test_a_configuration_that_was_changed_by_hand(words, ends, tmp_path):
    cli.main(words("CoOp", "run"))
    (tmp_path / "run" / "results.json").unlink()
    (tmp_path / "run" / "config.yaml").write_text("A: [")
    shown = ends(2, words("CoOp", "run", resume=tmp_path / "run"))
    assert "config.yaml was changed and cannot be read" in shown
