"""`python predict.py`: what it writes, and how it ends."""

import csv
import io
import json
import os
import runpy
import shutil
import signal
import sys

import pytest

import inference.cli
from experiment.exit_status import INCOMPLETE, MACHINE, REFUSED, STOPPED
from inference import cli
from inference.run import load_run
from prompting import load_backbone, load_prompts, predict
from tests.docs.pages import ROOT


@pytest.fixture
def call(prompts, tiny_file, photos, capsys):
    """Run the command on the miniature images; returns status, standard output and error."""

    def run(*words, sources=(photos[0].parents[1],), model=("--prompts", prompts)):
        words = [*model, *words, "--backbone", tiny_file, *sources]
        load_backbone(tiny_file)  # which warns of what its file does not say, once
        capsys.readouterr()  # what was printed before
        status = cli.main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


def test_a_table_on_standard_output_and_the_count_on_the_other(call, photos):
    status, out, err = call(sources=photos)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["filename", "label", "prob"] and len(lines) == 2 + 12
    assert [line.split()[0] for line in lines[2:]] == [str(photo) for photo in photos]
    assert "\n12 of 12 images, " in f"\n{err}" and err.endswith(" images/s, 0 skipped\n")


@pytest.mark.parametrize("style", ["csv", "json"])
def test_a_file_of_results_holds_what_the_library_says(
    call, prompts, tiny_file, photos, tmp_path, style
):
    path = tmp_path / "deep" / f"results.{style}"
    status, out, _ = call("--topk", 2, "-b", 5, "--results-file", path, sources=photos)
    assert (status, out) == (0, "")
    found = list(csv.DictReader(path.open())) if style == "csv" else json.loads(path.read_text())
    expected = predict(load_prompts(prompts, backbone=tiny_file)[0], photos, topk=2)
    for row, prediction in zip(found, expected, strict=True):
        assert (row["label_0"], row["label_1"]) == prediction.labels
        assert float(row["prob_0"]) == pytest.approx(prediction.probs[0], abs=1e-6)


def test_a_name_without_an_ending_takes_the_format_given(call, tmp_path):
    call("--results-format", "json", "--results-file", tmp_path / "results")
    assert len(json.loads((tmp_path / "results").read_text())) == 36


def test_a_page(call, tmp_path):
    status, out, _ = call("--html", tmp_path / "page.html")
    assert (status, out) == (0, "")
    assert "data:image/jpeg;base64," in (tmp_path / "page.html").read_text()


def test_broken_files_are_skipped_counted_and_named(call, photos, tmp_path):
    (tmp_path / "broken.jpg").write_text("no image")
    path = tmp_path / "list.txt"
    path.write_text(f"{photos[0]}\n{tmp_path / 'gone.jpg'}\n")
    results = tmp_path / "results.csv"
    status, _, err = call("--results-file", results, sources=[tmp_path / "broken.jpg", path])
    assert status == INCOMPLETE
    first, second, third = err.splitlines()
    assert first.startswith("3 of 3 images, ") and first.endswith(", 2 skipped")
    assert second.startswith(f"skipped {tmp_path / 'broken.jpg'}: cannot identify image file")
    assert third.startswith(f"skipped {tmp_path / 'gone.jpg'}: [Errno 2] No such file")
    assert len(results.read_text().splitlines()) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_a_name_that_is_no_utf_8_costs_no_prediction(call, photos, tmp_path, style):
    odd = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(photos[0], odd)
    results, page = tmp_path / "results", tmp_path / "page.html"
    words = ("--format", style, "--results-file", results, "--html", page)
    status, _, _ = call(*words, sources=[odd, photos[1]])
    assert status == 0 and str(photos[1]) in results.read_text(encoding="utf-8")
    for path, quoted in ((results, style == "json"), (page, True)):
        name = r"caf\\xe9.jpg" if quoted else r"caf\xe9.jpg"
        assert name in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_standard_output_in_another_encoding_loses_nothing(
    call, photos, tmp_path, monkeypatch, style, encoding
):
    odd = tmp_path / "caf\u00e9 \u72ac \U0001f415.jpg"
    shutil.copy(photos[0], odd)
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    status, _, err = call("--format", style, sources=[odd, photos[1]])
    shown.seek(0)
    text = shown.read()
    assert status == 0 and "2 of 2 images" in err and str(photos[1]) in text
    if style == "json":
        assert json.loads(text)[0]["filename"] == str(odd)
    else:
        name = odd.name if encoding == "utf-16" else r"caf\u00e9 \u72ac \ud83d\udc15.jpg"
        assert name.replace(r"\u00e9", "\u00e9" if encoding == "latin-1" else r"\u00e9") in text


def test_classes_of_one_s_own_with_prompts_and_zero_shot(call, photos, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("tabby cat\nowl\n")
    probs = []
    for model in ({"model": ()}, {}):
        words = ("--classes", names, "--topk", 9, "--format", "json")
        status, out, _ = call(*words, sources=photos[:1], **model)
        (row,) = json.loads(out)
        assert status == 0 and {row["label_0"], row["label_1"]} == {"tabby cat", "owl"}
        assert len(row) == 5
        probs.append(row["prob_0"])
    assert probs[0] != probs[1]


def test_a_run_and_a_checkpoint_are_predicted_with(checkpoint, call, photos, tmp_path):
    checkpoint("MMLoP")
    expected = [p.labels[0] for p in predict(load_run(tmp_path / "run").model, photos)]
    for source in (tmp_path / "run", tmp_path / "run" / "prompt_learner" / "model.pth.tar-3"):
        words = ("--format", "json")
        status, out, _ = call(*words, model=("--prompts", source), sources=photos)
        assert status == 0
        assert [row["label"] for row in json.loads(out)] == expected


def test_a_folder_above_runs_names_them(call, tmp_path):
    for name in "dcba":
        (tmp_path / "own" / name / "seed1" / "prompt_learner").mkdir(parents=True)
    status, _, err = call(model=("--prompts", tmp_path / "own"))
    runs = ", ".join(str(tmp_path / "own" / name / "seed1") for name in "abc")
    assert (status, err) == (
        REFUSED, f"predict.py: No checkpoint in --prompts {tmp_path / 'own'}: give a run below it, "
        f"such as {runs}.\n",
    )  # fmt: skip


REFUSALS = {
    "no classes": (("--topk", 1), (), "Without --prompts there are no class names: pass --classes"),
    "no prompts": ((), ("--prompts", "nothing"), "There are no prompts at nothing: give a folder"),
    "topk": (("--topk", 0), None, "--topk must be at least 1."),
    "batch": (("--batch-size", 0), None, "--batch-size must be at least 1."),
    "folder": (("--results-file", "."), None, ". is a folder: give the name of a file to write."),
    "no folder": (("--html", "names.txt/page.html"), None, "names.txt is a file and no folder: na"),
    "below a file": (
        ("--results-file", "names.txt/a/b.csv"),
        None,
        "names.txt is a file and no folder: name an",
    ),
    "terminal": (("--format", "parquet"), None, ("Parquet ")),
    "classes": (
        ("--classes", "none.txt"),
        None,
        "--classes takes a file with a class name per line, and none.txt is no file.",
    ),
    "classes in a folder": (
        ("--classes", "."),
        None,
        "--classes takes a file with a class name pe",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_wrong_is_refused_before_any_work(call, monkeypatch, tmp_path, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").touch()
    words, model, message = REFUSALS[case]
    monkeypatch.setattr(inference.cli, "predict", None)
    status, out, err = call(*words, **({} if model is None else {"model": model}))
    assert (status, out) == (REFUSED, "")
    assert err.startswith("predict.py: ") and message in err and err.count("\n") == 1


def test_a_source_that_is_not_there(call):
    status, _, err = call(sources=["nothing/*.png"])
    assert (status, err) == (
        REFUSED, "predict.py: There is no file, folder or match for nothing/*.png.\n",
    )  # fmt: skip


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done(call, photos, tmp_path, monkeypatch, signum):
    def interrupted(*args):
        for number, prediction in enumerate(predict(*args)):
            if number == 5:
                os.kill(os.getpid(), signum)
            yield prediction

    monkeypatch.setattr(inference.cli, "predict", interrupted)
    path = tmp_path / "results.csv"
    status, _, err = call("-b", 1, "--results-file", path, sources=photos)
    assert status == STOPPED and err.startswith("5 of 12 images")
    assert len(path.read_text().splitlines()) == 1 + 5


def test_memory_that_is_used_up(call, monkeypatch):
    def used_up(*_):
        raise MemoryError("no more")
        yield

    monkeypatch.setattr(inference.cli, "predict", used_up)
    status, _, err = call()
    assert (status, err.splitlines()[-1]) == (
        MACHINE, "predict.py: The memory is used up (no more): lower --batch-size.",
    )  # fmt: skip


def test_the_entry_at_the_top(prompts, tiny_file, monkeypatch, capsys):
    words = ["predict.py", "--prompts", prompts, "--backbone", tiny_file, "nothing.png"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "predict.py"), run_name="__main__")
    assert ended.value.code == REFUSED
    assert capsys.readouterr().err.startswith("predict.py: There is no file, folder or match")
