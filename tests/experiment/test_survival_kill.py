"""Runs that are killed at any moment, and then resumed, end like one that never was.

SURVIVAL=full runs them on the demo world, at 20 moments, with several methods.
"""

import os
import random
import time

import pytest

FULL = os.environ.get("SURVIVAL") == "full"
METHODS = ("MMLoP", "IVLP", "PromptSRC", "CoOp") if FULL else ("PromptSRC",)
KILLS = 20 if FULL else 2
CALLS = range(2, 26, 3) if FULL else (6,)  # of os.fsync and of os.replace
# The demo world, with its own backbone; its evaluation takes longer than these trainings.
DEMO = ("DATALOADER.NUM_WORKERS", "0", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "2")
DEMO += ("DATASET.SUBSAMPLE_CLASSES", "base", "DATALOADER.TRAIN_X.BATCH_SIZE", "4")
DEMO += ("TEST.NO_TEST", "True")
STEPS = ("TRAIN.CHECKPOINT_FREQ", "1", "TRAIN.CHECKPOINT_STEPS", "2", "TRAIN.PRINT_FREQ", "1")


@pytest.fixture
def arguments(words):
    def make(trainer, folder, kind="output-dir"):
        if FULL:
            return ["--trainer", trainer, "--seed", "1", f"--{kind}", str(folder), *DEMO, *STEPS]
        flags = {"output-dir": folder, kind: folder}
        return words(trainer, folder.name, *STEPS, **flags)

    return make


@pytest.fixture
def finish(start, arguments, tmp_path):
    def call(trainer, folder, kind="output-dir"):
        process = start("run", arguments(trainer, folder, kind), str(tmp_path / "printed"))
        process.join()
        assert process.exitcode == 0, (tmp_path / "printed").read_text()[-2000:]

    return call


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Folder and seconds of a method's uninterrupted run, which is made when first asked for."""
    known = {}

    def call(trainer, start, finish):
        if trainer not in known:
            start("warm_up").join()
            folder = tmp_path_factory.mktemp("whole") / trainer
            began = time.monotonic()
            finish(trainer, folder)
            known[trainer] = folder, time.monotonic() - began
        return known[trainer]

    return call


def test_sigkill_at_random_moments(start, arguments, finish, done, same_end, tmp_path):
    """The moments are drawn from the whole time that an uninterrupted run takes."""
    drawn = random.Random(0)
    killed, shortest = 0, {}  # how long the fastest run of a method took: machines have other work
    for number in range(3 * KILLS):  # a run that was faster than its kill does not count
        trainer = METHODS[number % len(METHODS)]
        whole, seconds = done(trainer, start, finish)
        folder = tmp_path / f"{trainer}-{number}"
        process = start("run", arguments(trainer, folder), str(tmp_path / "printed"))
        began = time.monotonic()
        process.join(drawn.uniform(0, shortest.get(trainer, seconds)))
        if not process.is_alive():
            shortest[trainer] = time.monotonic() - began
        process.kill()
        process.join()
        killed += process.exitcode == -9
        saved = sorted(path.name for path in folder.glob("prompt_learner/model*"))
        print(f"{folder.name}: exit status {process.exitcode}, saved {saved}")
        if not (folder / "results.json").exists():
            # A folder that the killed run had not yet made is no run to resume.
            finish(trainer, folder, kind="resume" if folder.is_dir() else "output-dir")
        same_end(whole, folder)
        if killed == KILLS:
            break
    assert killed == KILLS


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_sigkill_within_a_checkpoint_write(
    start, arguments, finish, done, same_end, tmp_path, call
):
    """Right before a sync or a rename, of which every save has several."""
    trainer = METHODS[0]
    whole, _ = done(trainer, start, finish)
    for number in CALLS:
        folder = tmp_path / f"{call}{number}"
        printed = str(tmp_path / "printed")
        process = start("run_and_die", arguments(trainer, folder), printed, call, number)
        process.join()
        saved = sorted(path.name for path in folder.glob("prompt_learner/*"))
        print(f"killed at {call} {number}: exit status {process.exitcode}, saved {saved}")
        if process.exitcode == 0:  # a run has no more of these calls
            break
        assert process.exitcode == -9 and not (folder / "results.json").exists()
        finish(trainer, folder, kind="resume")
        same_end(whole, folder)
        assert not list(folder.glob("**/*.part")), "what the killed run left half written"
    assert number > min(CALLS) or not FULL
