import yaml

from prompting import load_prompts, save_prompts
from prompting.hub import CARD
from tests.prompting.learners import NAMES, low_rank

TRAINING = {"trainer": "MMLoP", "dataset": "Caltech101", "subsample": "base", "shots": 16,
            "seed": 3, "epochs": 5, "options": {"RANK": 2}}  # fmt: skip
RESULTS = {"dataset": "Caltech101", "subsample": "new", "split": "test", "accuracy": 93.4567,
           "correct": 43, "total": 46, "commit": "abc"}  # fmt: skip


def test_the_card_says_what_was_trained_on_what_and_how_good(tiny_backbone, tmp_path):
    folder = save_prompts(low_rank(tiny_backbone), tmp_path / "p", TRAINING, [RESULTS])
    page = (folder / CARD).read_text(encoding="utf-8")
    front = yaml.safe_load(page.split("---")[1])
    assert front["license"] == "mit" and front["tags"] == ["clip", "prompt-learning", "mmlop"]
    assert "# MMLoP on Caltech101, tiny" in page
    for row in ("| data set | Caltech101 |", "| classes | base |", "| shots | 16 |", "| seed | 3 |",
                "| numbers | 1,560 |", f"| hash of its weights | `{'0' * 64}` |",
                "| commit | `abc` |",
                "| Caltech101, new classes | test | 93.46 % | 43 | 46 |"):  # fmt: skip
        assert row in page, row
    assert "(https://arxiv.org/abs/2602.21397), which has the method's settings.\n" in page
    assert f'{len(NAMES)}: "cat", "striped_star", "dog house"' in page


def test_a_card_without_figures_says_so(tiny_backbone, tmp_path):
    page = (save_prompts(low_rank(tiny_backbone), tmp_path / "p") / CARD).read_text()
    assert "No figures: these prompts were saved without results." in page
    assert "# LowRankPrompts, tiny" in page
    assert "(https://arxiv.org/abs/2602.21397).\n" in page  # no word of MMLoP's settings
    assert "data set |" not in page and "commit |" not in page


def test_the_card_s_example_runs(tiny_backbone, tmp_path, monkeypatch, capsys):
    from PIL import Image

    import prompting

    folder = save_prompts(low_rank(tiny_backbone), tmp_path / "p")
    page = (folder / CARD).read_text(encoding="utf-8")
    source = page.partition("```python\n")[2].partition("```")[0].replace("FOLDER", str(folder))
    monkeypatch.setattr(
        prompting, "load_prompts", lambda path: load_prompts(path, backbone=tiny_backbone)
    )
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 50), "red").save("image.jpg")
    exec(compile(source, CARD, "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] in NAMES
