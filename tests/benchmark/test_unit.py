"""The process of a unit, before it imports anything heavy, and without whoever started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark import unit
from benchmark.calls import Call, Plan
from benchmark.failures import read_failures
from experiment import exit_status
from experiment.lock import claim


@pytest.fixture
def plan(tmp_path) -> Path:
    """A unit of two seeds that are stepped together; no call of it could be made."""
    calls = [Call((), tmp_path / f"seed{s}" / "train", True, group=tmp_path) for s in (1, 2)]
    return Plan(tmp_path, [calls]).write()


def test_a_unit_leaves_all_its_folders_if_another_process_has_one(plan, tmp_path):
    with claim(tmp_path / "seed2"):
        process = unit.start(plan, 0)
        assert process.wait(60) == unit.BUSY and "is in use" in process.stdout.read()
        with claim(tmp_path / "seed1"):
            pass
    assert not read_failures(tmp_path)


def test_a_unit_ends_with_whoever_started_it(plan, tmp_path):
    """SIGKILL of the scheduler: the unit stops before it has made, or failed, any call."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from benchmark import unit\n"
        "print(unit.start(Path(sys.argv[1]), 0).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(plan)]
    starter = subprocess.Popen(command, cwd=unit.ROOT, stdout=subprocess.PIPE, text=True)
    pid = int(starter.stdout.readline())
    wait_for(lambda: (tmp_path / "seed2" / ".lock").exists())
    starter.send_signal(signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert not read_failures(tmp_path)
    assert not list(tmp_path.glob("seed*/.lock"))


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_its_statuses_are_those_of_train_py_and_one_of_its_own():
    assert unit.STOPPED == exit_status.STOPPED
    assert unit.BUSY not in vars(exit_status).values() and os.EX_TEMPFAIL == unit.BUSY
