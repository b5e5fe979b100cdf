"""Test the evaluator: numbers computed by hand, log lines, files."""

import pytest
import torch
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy

# label: 0 0 0 0 1 1, prediction: 0 0 0 1 1 2; class 2 is known but has no image.
LABELS = torch.tensor([0, 0, 0, 0, 1, 1])
SCORES = torch.eye(4)[[0, 0, 0, 1, 1, 2]]
NAMES = {0: "ant", 1: "bee", 2: "cat", 3: "dog"}


def evaluate(cfg):
    evaluator = build_evaluator(cfg, lab2cname=NAMES)
    evaluator.process(SCORES, LABELS)
    evaluator.reset()
    evaluator.process(SCORES[:4], LABELS[:4])
    evaluator.process(SCORES[4:], LABELS[4:])
    return evaluator, evaluator.evaluate()


def test_numbers_by_hand(cfg):
    evaluator, results = evaluate(cfg)
    assert list(results) == ["accuracy", "error_rate", "macro_f1"]
    assert results["accuracy"] == pytest.approx(100 * 4 / 6)
    assert results["error_rate"] == pytest.approx(100 * 2 / 6)
    # ant: 2*3 / (2*3 + 0 + 1), bee: 2*1 / (2*1 + 1 + 1); cat never occurs as a label.
    assert results["macro_f1"] == pytest.approx(100 * (6 / 7 + 2 / 4) / 2)
    assert (evaluator._correct, evaluator._total) == (4, 6)


def test_log_lines(cfg, capsys):
    cfg.TEST.PER_CLASS_RESULT = True
    capsys.readouterr()
    _, results = evaluate(cfg)
    assert capsys.readouterr().out == (
        "Loading evaluator: Classification\n"
        "=> result\n"
        "* total: 6\n"
        "* correct: 4\n"
        "* accuracy: 66.7%\n"
        "* error: 33.3%\n"
        "* macro_f1: 67.9%\n"
        "=> per-class result\n"
        "* class: 0 (ant)\ttotal: 4\tcorrect: 3\tacc: 75.0%\n"
        "* class: 1 (bee)\ttotal: 2\tcorrect: 1\tacc: 50.0%\n"
        "* average: 62.5%\n"
    )
    assert results["perclass_accuracy"] == 62.5


def test_confusion_matrix_is_a_plain_tensor(cfg, tmp_path):
    cfg.TEST.COMPUTE_CMAT = True
    evaluate(cfg)
    matrix = torch.load(tmp_path / "out" / "cmat.pt", weights_only=True)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[0, 0], expected[0, 1] = 0.75, 0.25
    expected[1, 1], expected[1, 2] = 0.5, 0.5
    assert torch.equal(matrix, expected)


def test_errors(cfg):
    with pytest.raises(ValueError, match="No image was evaluated"):
        build_evaluator(cfg, lab2cname=NAMES).evaluate()
    cfg.TEST.PER_CLASS_RESULT = True
    with pytest.raises(ValueError, match="lab2cname"):
        build_evaluator(cfg)
    cfg.TEST.EVALUATOR = "classification"
    with pytest.raises(ValueError, match="Did you mean 'Classification'"):
        build_evaluator(cfg)


def test_accuracy_of_a_batch():
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.9, 0.04, 0.06]])
    top1, top2 = compute_accuracy(scores, torch.tensor([2, 0, 0, 1]), topk=(1, 2))
    assert (top1.shape, top1.item(), top2.item()) == ((1,), 25.0, 50.0)
    assert compute_accuracy((scores, None), torch.tensor([1, 0, 2, 0]))[0].item() == 100.0
