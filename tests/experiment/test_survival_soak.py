"""Many short runs in a row in one folder tree, some killed: nothing piles up.

SURVIVAL=full makes 200 of them.
"""

import json
import os
import random
import resource

import pytest

from experiment import cli

FULL = os.environ.get("SURVIVAL") == "full"
RUNS = 200 if FULL else 6
METHODS = ("MMLoP", "IVLP", "PromptSRC", "CoOp", "ZeroshotCLIP")
WARM = 20 if FULL else 3  # runs after which caches of PyTorch and Python have their size


def open_files():
    return len(os.listdir("/proc/self/fd"))


def memory():
    """Resident memory of this process now, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts by Linux's /proc")
def test_memory_and_open_files_stay_flat(words, start, tmp_path):
    """In one process, with every fourth run in a process of its own that is killed and resumed."""
    drawn = random.Random(0)
    start("warm_up").join()
    measured, killed = [], 0
    for number in range(RUNS):
        trainer = METHODS[number % len(METHODS)]
        short = ("OPTIM.MAX_EPOCH", "1", "TRAIN.CHECKPOINT_STEPS", "1", "DATASET.NUM_SHOTS", "1")
        name = f"{trainer}/seed{number}"
        folder = tmp_path / name
        if number % 4 == 3:
            process = start("run", words(trainer, name, *short), str(tmp_path / "printed"))
            process.join(drawn.uniform(0.1, 1.5))
            process.kill()
            process.join()
            killed += process.exitcode == -9
        if folder.is_dir() and not (folder / "results.json").exists():
            cli.main(words(trainer, name, *short, resume=folder))
        elif not folder.is_dir():
            cli.main(words(trainer, name, *short))
        assert json.loads((folder / "results.json").read_text())["total"] == 12
        assert not list(folder.glob("**/.*")), "locks or halves of files"
        measured.append((open_files(), memory()))
        if number % 20 == 19:
            print(f"{number + 1} runs, {killed} killed: {measured[-1]}")
    files, megabytes = zip(*measured[WARM:], strict=True)
    assert killed >= RUNS // 8
    assert max(files) - min(files) <= 2, files
    assert megabytes[-1] - megabytes[0] < 10, megabytes
