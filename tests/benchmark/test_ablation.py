import pytest

import train
from benchmark.ablation import PARTS, jobs

# What each row of the paper's tables 4 and 5 is, at the demo's widths of 64 and 128 (T = 4, J = 9).
EXPECTED = {
    "components": [
        {"LOW_RANK": False, "SCL": False, "UDC": False},
        {"LOW_RANK": True, "SHARED_UP": False, "SCL": False, "UDC": False},
        {"LOW_RANK": True, "SHARED_UP": False, "SCL": True, "UDC": False},
        {"LOW_RANK": True, "SHARED_UP": False, "SCL": True, "UDC": True},
        {"LOW_RANK": True, "SHARED_UP": True, "SCL": True, "UDC": True},
    ],
    "rank": [{"RANK": 1}, {"RANK": 2}, {"RANK": 4}],
}


def configs(part, output):
    for job in jobs(part, output, [1]):
        args = train.parse_args(["--trainer", job.trainer, *job.flags, *job.options])
        yield train.setup_cfg(args)


@pytest.mark.parametrize("part", EXPECTED)
def test_rows_are_the_paper_s(part, tmp_path):
    found = [cfg.TRAINER.MMLOP for cfg in configs(part, tmp_path)]
    assert len(found) == len(EXPECTED[part])
    for node, expected in zip(found, EXPECTED[part], strict=True):
        assert {key: node[key] for key in expected} == expected


@pytest.mark.parametrize("part", PARTS)
def test_only_the_sweep_looks_at_validation_pictures(part, tmp_path):
    splits = {cfg.TEST.SPLIT for cfg in configs(part, tmp_path)}
    assert splits == ({"val"} if part == "sweep" else {"test"})


def test_every_job_has_a_folder_of_its_own(tmp_path):
    folders = [job.folder for part in PARTS for job in jobs(part, tmp_path, [1, 2])]
    assert len(set(folders)) == len(folders)
