"""Stops by a signal: what is saved, what is reported, and that the command resumes exactly."""

import os
import shlex
import signal
import time

import pytest
import torch

from experiment import cli
from trainers.base import PromptTrainer


@pytest.fixture
def stopped(capsys):
    """Run, expecting status 4; returns what was printed."""

    def call(arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 4
        shown = capsys.readouterr().err.strip()
        assert len(shown.splitlines()) == 1
        return shown

    return call


def send(monkeypatch, method, number, signum=signal.SIGTERM):
    """Have the process get a signal in the `number`-th call of a trainer's method."""
    real, calls = getattr(PromptTrainer, method), []

    def sending(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(signum)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(PromptTrainer, method, sending)


@pytest.mark.parametrize("trainer", ["MMLoP", "PromptSRC"])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(
    words, stopped, same_end, tmp_path, monkeypatch, trainer
):
    cli.main(words(trainer, "whole"))
    with monkeypatch.context() as patch:
        send(patch, "forward_backward", 6, signal.SIGINT)
        shown = stopped(words(trainer, "cut"))
    saved = tmp_path / "cut" / "prompt_learner" / "model.pth.tar-1-2"
    assert shown.startswith(f"train.py: Stopped by SIGINT. Saved is {saved}; resume with: python ")
    command = shlex.split(shown.partition("resume with: ")[2])
    assert command[:4] == ["python", "train.py", "--resume", str(tmp_path / "cut")]
    cli.main(command[2:])
    same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_signal_while_validating(words, stopped, same_end, tmp_path, monkeypatch):
    """PromptSRC has then added the epoch to its average, and must not add it twice."""
    best = ("TEST.FINAL_MODEL", "best_val")
    cli.main(words("PromptSRC", "whole", *best))
    with monkeypatch.context() as patch:
        send(patch, "test", 1)
        shown = stopped(words("PromptSRC", "cut", *best))
    assert "model.pth.tar-0-4; resume with" in shown
    cli.main(words("PromptSRC", "cut", *best, resume=tmp_path / "cut"))
    same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_signal_in_the_final_evaluation(words, stopped, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        send(patch, "test", 1)
        shown = stopped(words("CoOp", "cut"))
    assert "model.pth.tar-2; resume with" in shown
    assert not (tmp_path / "cut" / "results.json").exists()
    cli.main(words("CoOp", "cut", resume=tmp_path / "cut"))
    assert (tmp_path / "cut" / "results.json").exists()


def test_a_signal_before_the_first_step(words, stopped, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        send(patch, "build_model", 1)
        shown = stopped(words("CoOp", "cut"))
    assert "Stopped by SIGTERM. Nothing was saved yet; run again: python train.py" in shown
    cli.main(shlex.split(shown.partition("run again: ")[2])[2:])
    assert (tmp_path / "cut" / "results.json").exists()


def test_a_signal_in_an_evaluation(words, stopped, tmp_path, monkeypatch):
    cli.main(words("CoOp", "trained"))
    evaluation = words("CoOp", "evaluated", "--eval-only", model_dir=tmp_path / "trained")
    with monkeypatch.context() as patch:
        send(patch, "test", 1)
        shown = stopped(evaluation)
    assert "There was nothing to save; run again: python train.py" in shown
    cli.main(evaluation)
    assert (tmp_path / "evaluated" / "results.json").exists()


def test_the_handlers_are_put_back(words, stopped, monkeypatch):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    send(monkeypatch, "forward_backward", 1)
    stopped(words("CoOp", "cut"))
    assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]


def test_a_second_signal_ends_at_once(start, words, tmp_path):
    """In a step that never ends; the lock that is left is seen to be a dead one's."""
    shown = tmp_path / "shown"
    process = start("run_slowly", words("CoOp", "cut"), str(shown), 6)
    wait_for("waiting", shown)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGINT)
    process.join(10)
    assert process.exitcode == -signal.SIGINT
    assert (tmp_path / "cut" / ".lock").exists()
    cli.main(words("CoOp", "cut", resume=tmp_path / "cut"))
    assert (tmp_path / "cut" / "results.json").exists()


def test_loaders_leave_a_signal_to_the_run(start, words, same_end, tmp_path):
    """A terminal's Ctrl-C and a cluster's SIGTERM reach every process, those of the loader too."""
    workers = ("DATALOADER.NUM_WORKERS", "1", "OPTIM.MAX_EPOCH", "1")
    cli.main(words("CoOp", "whole", *workers))
    shown = tmp_path / "shown"
    process = start("run_as_group", words("CoOp", "cut", *workers), str(shown), 2)
    process.join(60)
    assert process.exitcode == 4, shown.read_text()
    assert "Stopped by SIGTERM. Saved is" in shown.read_text()
    assert "Traceback" not in shown.read_text()
    cli.main(words("CoOp", "cut", *workers, resume=tmp_path / "cut"))
    same_end(tmp_path / "whole", tmp_path / "cut")


def wait_for(text, shown):
    for _ in range(600):
        if shown.exists() and text in shown.read_text():
            return
        time.sleep(0.1)
    pytest.fail(f"{text!r} was never printed: {shown.read_text()[-1000:]}")


def test_the_gradient_scaler_goes_on_where_it_was(words, tmp_path, monkeypatch):
    """On a CPU there is none, so one of the CPU's is put in its place."""

    def built(name):
        args = cli.parse_args(words("CoOp", name))
        trainer = cli.build(args, cli.setup_cfg(args))
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1)
        return trainer

    trainer = built("one")
    trainer.train()
    assert trainer.scaler.get_scale() > 64.0
    other = built("other")
    other.resume_model_if_exist(str(tmp_path / "one"))
    assert other.scaler.state_dict() == trainer.scaler.state_dict()
