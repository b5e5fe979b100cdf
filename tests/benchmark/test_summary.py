import json
from pathlib import Path

import pytest
from dassl.data.datasets import DATASET_REGISTRY

from benchmark import run
from benchmark.failures import Outcome
from benchmark.summary import findings
from benchmark.workload import COUNTED, TEST_IMAGES, size, workload
from experiment.cli import expected


def taken(*words: str, root: str = "data") -> list[int]:
    """Return what runs take, in the order of COUNTED."""
    runs = planned(*words, root=root)
    found = workload((each.trains, expected(call.arguments)) for each, call in runs)
    assert tuple(found) == COUNTED
    return list(found.values())


def planned(*words: str, root: str = "data"):
    args = run.parse_args([*words, "--root", root, "--output", "out"])
    return run.plan(args)


def test_what_table_1_takes():
    """1,098 base classes, 16 shots, batches of 4, 30 epochs, three seeds; 133,696 test images."""
    steps = 3 * 30 * 1098 * 4
    assert taken("base2new") == [33, 66, steps, 4 * steps, 3 * 133_696]


def test_what_table_2_takes():
    variants = 10_000 + 50_889 + 7_500 + 30_000
    steps = 3 * 50 * 4000
    assert taken("domain_generalization") == [3, 15, steps, 4 * steps, 3 * (50_000 + variants)]


def test_a_step_is_a_full_batch_if_there_is_one():
    """24 base classes of the demo world: batches of 16, 10 and 24 of 24 or 48 images."""
    words = ["base2new", "--only", "train", "--seeds", "1", "OPTIM.MAX_EPOCH", "2"]

    def steps(shots: int, *pairs: str) -> list[int]:
        return taken(*words, "DATASET.NUM_SHOTS", str(shots), *pairs, root="demo")[2:4]

    assert steps(1) == [2 * 1, 2 * 16]
    assert steps(2, "DATALOADER.TRAIN_X.BATCH_SIZE", "10") == [8, 80]
    assert steps(1, "DATALOADER.TRAIN_X.BATCH_SIZE", "99") == [2, 48]


def test_a_method_may_count_its_steps():
    """500 steps per shot on each of eleven data sets, at 1 to 16 shots, three seeds."""
    steps = 11 * 3 * 500 * (1 + 2 + 4 + 8 + 16)
    assert taken("few_shot", "--trainers", "CLIPLoRA")[2] == steps


def test_the_demo_world_counts_itself():
    counts = {}
    for each, call in planned("base2new", "domain_generalization", "--seeds", "1", root="demo"):
        counts[each.folder.name, each.classes] = size(expected(call.arguments))
    assert counts["train", "base"] == counts["test_new", "new"] == (24, 960)
    assert counts["train", "all"] == counts["test_shapeworld_v2", "all"] == (48, 1920)
    assert counts["test_shapeworld_a", "all"] == (24, 960)


def test_zero_shot_takes_no_steps():
    words = ["few_shot", "--trainers", "ZeroshotCLIP", "--datasets", "dtd"]
    assert taken(*words) == [0, 1, 0, 0, 1692]


@pytest.mark.parametrize("name", ["DescribableTextures", "EuroSAT", "OxfordFlowers", "OxfordPets"])
def test_the_counts_are_those_of_the_split_files(name, shared_data):
    split = json.loads((shared_data / "splits" / f"split_zhou_{name}.json").read_text())
    labels = [label for _, label, _ in split["test"]]
    half = (DATASET_REGISTRY.get(name).classes + 1) // 2
    base = sum(label < half for label in labels)
    assert TEST_IMAGES[name] == (base, len(labels) - base)


def test_a_data_set_of_unknown_size_is_reported(tiny_protocol, capsys):
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("[caltech101]", "[image_folder]"))
    run.main([tiny_protocol, "--root", "data", "--output", "out", "--dry-run"])
    assert "How many images ImageFolder has is known only" in capsys.readouterr().err


def test_a_few_runs_are_listed_and_many_counted(tmp_path):
    def found(*words):
        runs = [
            (each, run._call(each, args))
            for args in [run.parse_args([*words, "--root", "data", "--output", str(tmp_path)])]
            for each, _ in run.plan(args)
        ]
        kinds = ["finished", "failed"] + ["skipped"] * (len(runs) - 3)
        outcomes = {}
        for (_, call), kind in zip(runs, kinds, strict=False):
            outcomes[call.folder] = Outcome(call.folder, kind)
            call.folder.mkdir(parents=True, exist_ok=True)
            (call.folder / "results.json").write_text('{"accuracy": 61.234}')
        return findings(runs, outcomes, tmp_path).splitlines()

    lines = [line.split() for line in found("base2new", "--datasets", "dtd", "--seeds", "1,2")][2:]
    home = tmp_path / "dtd/base/shots_16/MMLoP/base2new"
    assert [line[:5] for line in lines] == [
        ["MMLoP", "dtd", "base", "1", "61.23"],
        ["MMLoP", "dtd", "new", "1", "failed"],
        ["MMLoP", "dtd", "base", "2", "61.23"],
        ["MMLoP", "dtd", "new", "2", "unfinished"],
    ]
    assert lines[0][5] == str(home / "seed1" / "train")
    (line,) = found("few_shot", "--datasets", "dtd")
    assert line == (
        f"13 of 15 runs are finished, 1 failed. Tables: python -m benchmark.report {tmp_path}"
    )
