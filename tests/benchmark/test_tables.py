import pytest

from benchmark.tables import format_table, harmonic_mean, summarise


def row(label, seed, base, new, parameters=10):
    def part(accuracy):
        return {
            "accuracy": accuracy,
            "trainable_parameters": parameters,
            "seconds": {"training": 3.0, "evaluation": 1.0},
        }

    return {"label": label, "seed": seed, "base": part(base), "new": part(new)}


def test_published_averages_give_the_published_harmonic_means(shared_data):
    """The family's rule on published rows: HM of the averages, to the last digit."""
    import json

    published = json.loads((shared_data / "published.json").read_text())["base_to_novel"]
    for name in ("CLIP", "CoOp", "CoCoOp", "MaPLe", "PromptSRC"):
        base, new, hm = published[name]["average"]
        assert round(harmonic_mean(base, new), 2) == pytest.approx(hm, abs=0.011), name


def test_summary_by_hand():
    rows = [row("a", 1, 80, 60), row("a", 2, 90, 70), row("b", 1, 0, 0, parameters=0)]
    a, b = summarise(rows)
    assert (a["method"], a["seeds"], a["trainable_parameters"], a["seconds"]) == ("a", 2, 10, 8)
    assert a["base"] == {"mean": 85, "std": pytest.approx(50**0.5)}
    assert a["hm"]["mean"] == pytest.approx(2 * 85 * 65 / 150)
    own = [2 * 80 * 60 / 140, 2 * 90 * 70 / 160]
    assert a["hm"]["std"] == pytest.approx(abs(own[0] - own[1]) / 2**0.5)
    assert b["hm"] == {"mean": 0, "std": 0}


def test_the_table_for_people():
    text = format_table(summarise([row("MMLoP", 1, 80, 60, 11_556)]))
    expected = "MMLoP 1 80.00 ± 0.00 60.00 ± 0.00 68.57 ± 0.00 11,556 8"
    assert text.splitlines()[-1].split() == expected.split()
