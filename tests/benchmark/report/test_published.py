"""Published figures: all of the paper's, and our arithmetic finds what does not add up."""

import json
import re

import pytest

from benchmark import protocol as protocols
from benchmark.protocol import load
from benchmark.report import published
from benchmark.report.comparison import averaged
from benchmark.report.metrics import average, harmonic_mean, score
from benchmark.report.published import AVERAGE, METRICS

PAPER = "arXiv 2602.21397v1"
TABLES = {  # of paper_tables.json
    "table_1_base_to_novel": "base2new",
    "table_2_domain_generalization": "domain_generalization",
    "table_3_few_shot_vit_b16": "few_shot",
    "table_4_and_8_components": "components",
    "table_6_few_shot_vit_b32": "few_shot_vit_b32",
    "table_7_logit_loss": "logits_loss",
    "table_9_rank": "sensitivity_rank",
    "table_10_length": "sensitivity_length",
    "table_11_depth": "sensitivity_depth",
}
STATED = {"table 1": "base2new", "tables 4 and 8": "components", "table 9": "sensitivity_rank"}
MISMATCH = re.compile(r"(HM|base|novel) printed ([\d.]+), .* ([\d.]+)$")
# Each of the figures compared is rounded: to two decimals, in few-shot tables of the paper to one.
ROUNDED, ROUNDED_TO_ONE = 0.012, 0.1
NAMES = [*TABLES.values(), "cross_dataset"]


@pytest.fixture(scope="module")
def paper(shared_data) -> dict:
    return json.loads((shared_data / "paper_tables.json").read_text())


@pytest.mark.parametrize("table", TABLES)
def test_every_figure_of_the_paper_is_there(paper, table):
    theirs = published.entries(TABLES[table])
    ours = {e["method"]: e for e in theirs if e["source"].startswith(PAPER)}
    assert list(ours) == list(paper[table])
    compared = 0
    for method, row in paper[table].items():
        by_shots = row if "few_shot" in table else {"": row}
        for shots, figures in by_shots.items():
            for name, figure in figures.items():
                here = {**ours[method].get("datasets", {}), AVERAGE: ours[method]["average"]}[name]
                # What is not trained is printed again for every number of shots, and stored once.
                here = here.get(shots, here.get("0")) if shots else here
                assert here == figure, (method, shots, name)
                compared += 1
    assert compared >= 30


def test_the_mismatches_are_the_paper_s(paper):
    theirs = set()
    for table, method, where, text in paper["mismatches"]:
        metric, printed, follows = MISMATCH.match(text).groups()
        metric = {"novel": "new"}.get(metric, metric)
        theirs.add((STATED[table], method, where, metric, float(printed), float(follows)))
    ours = {(name, *rest) for name in NAMES for rest in published.mismatches(name)}
    other = {rest for rest in ours if rest[1] == "MMRL"}  # of another source
    assert len(other) == 1 and ours - other == theirs


def test_the_parameters_are_those_printed(paper):
    ours = published.parameters()
    assert {method: ours[method][1] for method in paper["parameters"]} == paper["parameters"]
    assert ours["MaPLe"][0] == 3_550_000 and ours["IVLP"] == (46_080, "46,080")


def _recomputed(name: str, entry) -> dict:
    """Return averages and HMs that follow from an entry's other figures."""
    figures, follows = entry["figures"], {}
    for (part, column), _ in figures.items():
        if column == "HM":
            follows[part, "HM"] = harmonic_mean(figures[part, "base"], figures[part, "new"])
    names = [d for d in averaged(load(name)) if d in entry.get("datasets", {})]
    if len(names) < len(averaged(load(name))):
        return follows
    for column in {column for _, column in figures} - {"HM"}:
        scores = [score({1: figures[d, column]}, 1) for d in names]
        follows[AVERAGE, column] = average(scores).mean
    return follows


@pytest.mark.parametrize("name", NAMES)
def test_our_arithmetic_finds_the_mismatches_and_no_others(name):
    wrong, compared = set(), 0
    for entry in published.entries(name):
        for key, follows in _recomputed(name, entry).items():
            to_one = name.startswith("few_shot") and entry["source"].startswith(PAPER)
            if abs(entry["figures"][key] - follows) > (ROUNDED_TO_ONE if to_one else ROUNDED):
                wrong.add((entry["method"], *key, entry["figures"][key], round(follows, 2)))
            compared += 1
    assert compared >= 9
    assert wrong == set(published.mismatches(name))


def test_rows_per_table():
    of_paper = {
        name: sum(e["source"].startswith(PAPER) for e in published.entries(name)) for name in NAMES
    }
    assert of_paper["base2new"] == 20 and of_paper["domain_generalization"] == 12
    assert of_paper["few_shot"] == of_paper["few_shot_vit_b32"] == 13
    rest = [e for e in published.entries("base2new") if not e["source"].startswith(PAPER)]
    assert [e["method"] for e in rest] == ["VPT", "MMRL"] and of_paper["cross_dataset"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_data_sets_columns_and_rows_are_those_of_the_protocols(name):
    protocol = load(name)
    for entry in published.entries(name):
        assert entry["source"] and set(entry.get("datasets", {})) <= set(protocol.columns)
        columns = {column for _, column in entry["figures"]}
        assert columns <= {*METRICS, "accuracy", "0", *map(str, protocol.shots)}
    if protocol.varies:
        assert [entry["method"] for entry in published.entries(name)] == list(protocol.rows)


def test_what_is_no_table_has_no_entries():
    assert not published.entries("nothing")
    assert set(NAMES) <= set(protocols.names())
