"""Functions that tests run in processes of their own, which they end from outside."""

import contextlib
import multiprocessing
import os
import signal
import time

from experiment import cli


def run(arguments, output):
    """Call train.py with these arguments; its output goes to the file `output`."""
    # As in a process of the shell; else the loader's would import PyTorch again, every epoch.
    multiprocessing.set_start_method("fork", force=True)
    with (
        open(output, "w") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        cli.main(arguments)


def run_after(barrier, arguments, output):
    """Do the same, once all processes are there."""
    barrier.wait()
    run(arguments, output)


def run_and_die(arguments, output, call, number):
    """Do the same, killed right before the `number`-th call of os.fsync or os.replace."""
    real, calls = getattr(os, call), []

    def counted(*args):
        calls.append(args)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)

    setattr(os, call, counted)
    run(arguments, output)


def run_slowly(arguments, output, step):
    """Do the same, with the `step`-th step never ending."""
    from trainers.base import PromptTrainer

    real, steps = PromptTrainer.forward_backward, []

    def counted(self, batch):
        steps.append(1)
        if len(steps) == step:
            print("waiting", flush=True)
            while True:
                time.sleep(0.05)
        return real(self, batch)

    PromptTrainer.forward_backward = counted
    run(arguments, output)


def run_without_loader(arguments, output):
    """Do the same, with the loader's process killed in each step, as where memory runs out."""
    from trainers.base import PromptTrainer

    real = PromptTrainer.forward_backward

    def killing(self, batch):
        multiprocessing.active_children()[0].kill()
        return real(self, batch)

    PromptTrainer.forward_backward = killing
    run(arguments, output)


def warm_up():
    """Do nothing; the first process waits until PyTorch is imported for all of them."""


def run_as_group(arguments, output, step):
    """Do the same, as a process group that gets SIGTERM in the `step`-th step."""
    from trainers.base import PromptTrainer

    real, steps = PromptTrainer.forward_backward, []

    def counted(self, batch):
        steps.append(1)
        if len(steps) == step:
            os.killpg(0, signal.SIGTERM)
        return real(self, batch)

    os.setpgrp()
    PromptTrainer.forward_backward = counted
    run(arguments, output)
