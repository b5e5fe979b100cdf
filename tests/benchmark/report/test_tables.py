"""Tables of made-up results next to published figures."""

import pytest

from benchmark.report.collect import FROM_LOGS, Collected
from benchmark.report.metrics import score
from benchmark.report.published import entries
from benchmark.report.tables import tables

PUBLISHED = {e["trainer"]: e for e in entries("base2new")}
# Methods whose published averages follow from their data sets to the last digit.
EXACT = ("CoOp", "CoCoOp", "MaPLe", "IVLP", "TCP")


def rows(table) -> dict[str, list[str]]:
    """Return the cells' texts by the label of their line."""
    return {line[0].text: [cell.text for cell in line[1:]] for line in table.rows}


def below(table, label: str) -> list[str]:
    """Return the line of differences below one of our rows."""
    index = [line[0].text for line in table.rows].index(label) + 1
    assert table.rows[index][0].text == "  minus [1]"
    return [cell.text for cell in table.rows[index][1:]]


def test_published_accuracies_give_the_published_averages(found):
    """Runs with the published accuracies of six methods: their averages and HMs, and no gap."""
    made = tables(
        found("base2new", lambda r: PUBLISHED[r.row]["figures"][r.dataset, r.classes], EXACT)
    )
    average, base, _, hm = made
    assert average.header == ["method", "base", "new", "HM", "parameters"]
    for method in EXACT:
        texts = [f"{figure:.2f} ± 0.00 (3)" for figure in PUBLISHED[method]["average"]]
        assert rows(average)[method][:3] == texts, method
        assert {abs(float(gap)) for gap in below(average, method)[:3]} <= {0.0, 0.01}
    assert rows(base)["TCP"][-3].startswith("87.13")  # ucf101, then both averages
    assert rows(hm)["TCP"][-1] == rows(hm)["TCP [1]"][-1] + " ± 0.00 (3)" == "79.20 ± 0.00 (3)"
    assert [table.verdict is not None for table in made] == [True, False, False, False]


def test_all_of_the_paper_s_rows_and_where_others_were_read(found):
    average, *by_dataset = tables(found("base2new", lambda run: 70.0))
    labels = [line[0].text for line in average.rows]
    assert labels[:2] == ["MMLoP", "  minus [1]"]
    assert sum(label.endswith("[1]") for label in labels[2:]) == 20
    assert labels[-2:] == ["VPT [2]", "MMRL [3]"]
    assert rows(average)["MaPLe [1]"] == ["82.28", "75.14", "78.55", "3.55M"]
    assert average.sources[0] == "[1] arXiv 2602.21397v1, table 1"
    assert "MMRL: dtd HM is printed 73.82, 73.92 follows." in average.sources
    for table, column in zip(by_dataset, (0, 1, 2), strict=True):
        gaps = below(table, "MMLoP")
        assert gaps[8] == f"{70 - PUBLISHED['MMLoP']['datasets']['dtd'][column]:+.2f}"
        assert table.header[9] == "dtd" and len(gaps) == 13


def test_an_average_over_some_data_sets_is_not_compared(found):
    def accuracy(run):
        missing = run.dataset != "dtd" or (run.classes == "new" and run.seed == 2)
        return None if missing else 80.0 + run.seed

    average, base, new, hm = tables(found("base2new", accuracy))
    assert rows(base)["MMLoP"][8] == "82.00 ± 1.00 (3)"
    assert rows(new)["MMLoP"][8] == "82.00 ± 1.41 (2 of 3)"
    assert rows(hm)["MMLoP"][7:9] == ["missing", "82.00 ± 1.41 (2 of 3)"]
    assert below(hm, "MMLoP")[8] == "+11.89" and below(average, "MMLoP")[:3] == ["", "", ""]
    assert "MMLoP: average over 1 of 11 data sets." in average.notes


def test_another_setting_is_reported(found):
    deviating = {
        "CoOp": {"OPTIM.LR": {("0.1", "0.002")}},
        "MMLoP": {"OPTIM.LR": {("0.5", "0.0025")}},
    }
    first, *_ = tables(found("base2new", lambda run: 50.0, ("CoOp", "MMLoP"), deviating))
    text = "Not the protocol's setting: OPTIM.LR is 0.1 or 0.5, the protocol has 0.002 or 0.0025."
    assert text in first.notes


def test_transfer(found):
    own = {"imagenet": 70.0, "imagenetv2": 64.0, "imagenet_sketch": 49.0, "imagenet_a": 51.0}
    (table,) = tables(found("domain_generalization", lambda run: own.get(run.dataset, 77.0)))
    assert table.header[1] == "imagenet (source)" and table.header[-1] == "average of 4"
    assert rows(table)["MMLoP"][0] == "70.00 ± 0.00 (3)"
    assert rows(table)["MMLoP"][-1] == "60.25 ± 0.00 (3)"  # of the targets
    assert below(table, "MMLoP") == ["-1.00", "-0.30", "-0.07", "+0.17", "-0.63", "-0.21"]
    assert rows(table)["PromptSRC [2]"][-1] == "60.65"
    assert len([label for label in rows(table) if label.endswith("[1]")]) == 12 + 1


def test_few_shot(found):
    def accuracy(run):
        return 65.0 if run.shots == 0 else 70.0 + run.shots if run.shots in (4, 16) else None

    made = tables(found("few_shot", accuracy, ("ZeroshotCLIP", "MMLoP")))
    average = made[0]
    cells = ["missing", "missing", "74.00 ± 0.00 (3)", "missing", "86.00 ± 0.00 (3)"]
    assert rows(average)["MMLoP"] == cells
    assert below(average, "MMLoP") == ["", "", "-3.50", "", "+4.50"]  # to 77.5 and 81.5
    assert rows(average)["ZeroshotCLIP"] == ["65.00 ± 0.00 (1)".replace(" ± 0.00", "")] * 5
    assert rows(average)["Zero-Shot [1]"] == ["65.10"] * 5
    titles = [table.title.split(": ")[1] for table in made[1:]]
    assert titles == [f"{k} shot{'s' * (k > 1)} by data set" for k in (1, 2, 4, 8, 16)]
    assert below(made[-1], "MMLoP")[0] == "+14.10" and made[-1].header[1] == "imagenet"
    assert len([label for label in rows(made[-1]) if label.endswith("[1]")]) == 13 + 1


def test_a_log_of_one_number_of_shots_has_the_other_columns_blank(found):
    plain = found("few_shot", lambda run: None)
    label = f"MaPLe{FROM_LOGS}"
    extra = {(label, name, "all", 16): score({1: 60.0}, 1) for name in plain.protocol.columns}
    both = Collected(plain.asked, plain.protocol, {**plain.scores, **extra}, [], {}, {})
    average, by_dataset = tables(both)
    assert rows(average)[label] == ["", "", "", "", "60.00 (1)"]
    assert below(average, label)[-1] == "-18.60" and "16 shots" in by_dataset.title


def test_a_study_next_to_the_paper(found):
    accuracy = {"base": 80.0, "new": 70.0}
    average, _, new, _ = tables(found("sensitivity_rank", lambda run: accuracy[run.classes]))
    own = ["rank 1", "  minus [1]", "rank 2", "rank 4"]
    assert list(rows(average)) == [*own, "rank 1 [1]", "rank 2 [1]", "rank 4 [1]"]
    assert below(average, "rank 2")[:3] == ["-4.76", "-5.01", "-4.92"]
    assert rows(average)["rank 2 [1]"][:3] == ["84.76", "75.01", "79.59"]
    assert below(new, "rank 4")[6] == "+10.13" and new.header[7] == "dtd"


def test_the_demo_world_stands_next_to_no_published_figure(found):
    (table,) = tables(found("base2new", lambda run: 70.0, demo=True))
    assert list(rows(table)) == ["MMLoP"] and not table.sources
    assert table.title == "Base-to-new generalisation: shapeworld"


def test_rows_of_logs_are_compared_with_the_method_s(found):
    plain = found("base2new", lambda run: 70.0)
    label = f"MaPLe{FROM_LOGS}"
    extra = {(label, "dtd", classes, 16): score({1: 60.0}, 3) for classes in ("base", "new")}
    both = Collected(plain.asked, plain.protocol, {**plain.scores, **extra}, [], {}, {})
    *_, hm = tables(both)
    assert rows(hm)[label][8] == "60.00 (1 of 3)"
    assert float(below(hm, label)[8]) == pytest.approx(60 - 68.16)
