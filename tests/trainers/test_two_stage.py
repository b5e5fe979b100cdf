"""2SFS: each stage next to a plain reference, and which classes the classifier is for."""

import clip
import pytest
import torch
from torch.func import functional_call

from tests.reference import cross_entropy, unit
from trainers.two_stage import NORMS

NAMES = ["face", "leopard", "motorbike", "accordion"]  # the miniature data set's classes


@pytest.fixture
def moved(build):
    """A trainer of three epochs whose parameters are off their initial values."""

    def call(epoch, precision="fp32"):
        pairs = ("OPTIM.MAX_EPOCH", "3", "TRAINER.TWOSTAGE.PREC", precision)
        trainer = build("TwoStage", *pairs)
        trainer.epoch = epoch
        torch.manual_seed(1)
        for parameter in trainer.trainable_params:
            parameter.data += 0.05 * torch.randn_like(parameter)
        return trainer, torch.randn(3, 3, 32, 32), torch.tensor([0, 3, 1])

    return call


def reference(trainer, images, labels, second):
    """CLIP's own forward with the tuned layer norms; or the classifier on its image features."""
    model, learner = trainer.model.clip, trainer.model.prompt_learner
    norms = {}
    for tower, blocks in (("text", "transformer"), ("vision", "visual.transformer")):
        for layer, values in enumerate(getattr(learner, tower)):
            for name, value in zip(NORMS, values, strict=True):
                norms[f"{blocks}.resblocks.{layer}.{name}"] = value
    tokens = clip.tokenize([f"a photo of a {name}." for name in NAMES])
    logits = functional_call(model, norms, (images, tokens))[0]
    if second:
        norms = {k.removeprefix("visual."): v.detach() for k, v in norms.items() if "visual" in k}
        image = unit(functional_call(model.visual, norms, (images,)))
        logits = model.logit_scale.exp() * image @ unit(learner.classifier).T
    return cross_entropy(logits, labels)


@pytest.mark.parametrize(("epoch", "trained"), [(1, ("text", "vision")), (2, ("classifier",))])
def test_loss_and_gradients_of_each_stage(moved, epoch, trained):
    trainer, images, labels = moved(epoch)
    learner = trainer.model.prompt_learner
    terms, _ = trainer.loss_terms(images, labels)
    names = [name for name, _ in learner.named_parameters()]
    found = dict(zip(names, trainer.gradients(terms), strict=True))
    loss = reference(trainer, images, labels, second=epoch == 2)
    torch.testing.assert_close(sum(terms.values()), loss, rtol=1e-4, atol=1e-4)
    expected = torch.autograd.grad(loss, [getattr(learner, name) for name in trained])
    assert {name for name, value in found.items() if value is not None} == set(trained)
    for name, gradient in zip(trained, expected, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("precision", ["amp", "bf16", "fp16"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_other_precisions_are_near_fp32(moved, epoch, precision):
    directions = []
    for kind in ("fp32", precision):
        trainer, images, labels = moved(epoch, kind)
        gradients = trainer.gradients(trainer.loss_terms(images, labels)[0])
        directions.append(torch.cat([g.flatten() for g in gradients if g is not None]))
    assert torch.cosine_similarity(*directions, dim=0) > 0.98


def test_the_second_stage_begins_with_the_text_features(moved):
    trainer, *_ = moved(2)
    classifier = trainer.model.prompt_learner.classifier
    classifier.data.zero_()
    trainer.epoch = 1
    trainer.before_epoch()
    assert not classifier.any()
    trainer.epoch = 2
    trainer.before_epoch()
    with torch.no_grad():
        assert torch.equal(classifier, trainer.model.text_features(()))


def test_two_classes_of_one_name_keep_their_rows(moved):
    """ImageNet has two such pairs."""
    trainer, _, _ = moved(1)
    names = trainer.dm.dataset._classnames = ["missile", "cat", "missile", "dog"]
    state = {**trainer.model.prompt_learner.state_dict(), "classifier": torch.randn(4, 32)}
    found = trainer.adapt_checkpoint({"classnames": list(names), "state_dict": state})
    assert torch.equal(found["state_dict"]["classifier"], state["classifier"])


def test_a_class_has_its_row_wherever_it_stands_and_others_their_text(moved):
    """Of the four classes the checkpoint knows two, in another order."""
    trainer, images, _ = moved(1)
    trained = {"classnames": ["accordion", "dog", "leopard"], "state_dict": {
        **trainer.model.prompt_learner.state_dict(), "classifier": torch.randn(3, 32)}}  # fmt: skip
    state = trainer.adapt_checkpoint(trained)["state_dict"]
    trainer.model.prompt_learner.load_state_dict(state)
    rows = trained["state_dict"]["classifier"]
    text = trainer.model.correct(trainer.model.text_features(()))
    torch.testing.assert_close(text[[3, 1]], unit(rows[[0, 2]]))
    assert torch.equal(text[[0, 2]], trainer.model.text_features(())[[0, 2]])
    logits = trainer.model.logits(trainer.model.image_features(images), text)
    torch.testing.assert_close(trainer.model(images), logits)
