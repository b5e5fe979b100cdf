"""What one process does with the calls of its unit."""

import sys
from pathlib import Path

import pytest

from benchmark.calls import Call, Plan
from benchmark.worker import work
from experiment import cli


def outcomes(calls) -> list[tuple[str, str]]:
    """The seed folder and kind of each outcome, up to a stop."""
    found = []
    for outcome in work(calls, Plan(Path(), [calls])):
        found.append((outcome.folder.parent.name, outcome.kind))
    return found


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
    kinds = outcomes(calls)
    assert asked == [["seed1", "seed3"], ["seed2", "seed5"], ["seed4"]]
    assert sorted(kinds) == [(f"seed{seed}", "finished") for seed in range(1, 6)]


def test_what_a_group_leaves_unfinished_is_trained_apart(trainings, capsys):
    def fail(folders):
        finish(folders[:1])
        print("train.py: Seed 2: too much.", file=sys.stderr)
        sys.exit(3)

    calls, asked = trainings([None, None, None], fail)
    assert outcomes(calls) == [("seed1", "finished"), ("seed2", "finished"), ("seed3", "finished")]
    assert asked == [["seed1", "seed2", "seed3"], ["seed2"], ["seed3"]]
    printed = capsys.readouterr().err.strip()
    assert printed.endswith(
        ": seed2, seed3 are trained separately. train.py: Seed 2: too much. (exit status 3)"
    )


def test_a_stopped_group_is_stopped(trainings):
    calls, asked = trainings([None, None], lambda _: sys.exit(4))
    kinds = [kind for _, kind in outcomes(calls)]
    assert kinds[:2] == ["stopped", "stopped"] and asked[0] == ["seed1", "seed2"]
