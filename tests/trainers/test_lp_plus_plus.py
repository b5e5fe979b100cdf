"""LP++'s training on the miniature data set, next to a plain loop."""

import time

import pytest
import torch
import torch.nn.functional as F

from tests.reference import unit
from trainers.lp_plus_plus import step_sizes
from trainers.shot_features import shot_features


def plain(image, labels, text, validation, epochs, shots):
    """The published procedure: yields weight, bias, alpha and the hits of every epoch."""
    classes = len(text)
    one_hot = torch.eye(classes)[labels]
    weight = (one_hot.T @ image).requires_grad_()
    bias = torch.zeros(classes, requires_grad=True)
    own = one_hot * (image @ text.T) / one_hot.sum(dim=0)
    alpha = (250 / shots * shots * own.sum(dim=0).mean() * torch.ones(classes)).requires_grad_()
    rate = 4 * len(image) / torch.linalg.eigvalsh(image.T @ image).max()
    rate_alpha = len(image) / (4 * (image @ text.T).pow(2).sum(dim=0).max())
    optimizer = torch.optim.SGD([weight, bias], rate.item(), momentum=0.9)
    for epoch in range(1, epochs + 1):
        logits = image @ weight.T + bias + alpha * (image @ text.T)
        optimizer.zero_grad()  # which leaves the gradients of alpha: they add up
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        if epoch % 10 == 0:
            alpha.data -= rate_alpha * alpha.grad
        f, y = validation
        hits = ((f @ weight.T + bias + alpha * (f @ text.T)).argmax(dim=1) == y).sum().item()
        yield weight.detach().clone(), bias.detach().clone(), alpha.detach().clone(), hits


@pytest.mark.parametrize("epochs", [9, 23])
def test_it_trains_as_published_and_ends_with_the_latest_best_epoch(build, epochs):
    options = ("INPUT.TRANSFORMS", "['normalize']", "OPTIM.MAX_EPOCH", str(epochs))
    trainer = build("LPPlusPlus", *options, "TEST.NO_TEST", "True")
    probe, clip = trainer.model.prompt_learner, trainer.model.clip
    with torch.no_grad():
        probe.bias.zero_()

    def features(loader):
        batch = next(iter(torch.utils.data.DataLoader(loader.dataset, 100)))
        return unit(clip.encode_image(batch["img"])), batch["label"]

    shots, validation = features(trainer.train_loader_x), features(trainer.val_loader)
    text = trainer.model.frozen_text
    expected = list(plain(*shots, text, validation, epochs, shots=2))
    trainer.train()
    best = max(hits for *_, hits in expected)
    *values, _ = [state for state in expected if state[-1] == best][-1]
    for found, value in zip((probe.weight, probe.bias, probe.alpha), values, strict=True):
        torch.testing.assert_close(found.data, value, rtol=1e-3, atol=1e-3)


def test_no_gradient_is_scaled(build, monkeypatch):
    """As `auto` asks for on a GPU: the gradients of alpha do not pass through the scaler."""
    monkeypatch.setattr("trainers.base.needs_scaler", lambda *_: True)
    assert build("LPPlusPlus").scaler is None


def test_encoding_the_shots_is_part_of_the_training_s_seconds(run, monkeypatch):
    def slow(trainer, passes):
        time.sleep(0.5)
        return shot_features(trainer, passes)

    monkeypatch.setattr("trainers.lp_plus_plus.shot_features", slow)
    assert run("LPPlusPlus", "run")["seconds"]["training"] > 0.5


def test_step_sizes_follow_from_the_features():
    image, text = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert step_sizes(image, text) == pytest.approx((4 * 2 / 9, 2 / (4 * 9)))


def test_without_validation_images_the_last_epoch_counts(build, tmp_path):
    """ImageNet's validation images are its test images."""
    trainer = build("LPPlusPlus", "OPTIM.MAX_EPOCH", "3", "TEST.NO_TEST", "True")
    trainer.dm.dataset._val = trainer.dm.dataset.test
    trainer.train()
    assert trainer.best == {"right": -1}
    assert "chooses nothing on validation images" in (tmp_path / "built" / "log.txt").read_text()
