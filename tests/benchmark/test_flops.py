"""Counts of arithmetic against what PyTorch counts in real work."""

import clip
import pytest
import torch
from dassl.engine import build_trainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import train
from benchmark.speed import flops
from benchmark.speed.world import write_dataset
from prompting import class_prompts, encode_texts, tokenize

TEMPLATE = "a photo of a {}."
BATCH, TOKENS, DEPTHS = 4, 4, (6, 3)  # of 9 layers
SLACK = 1.05  # how much more ours may do than has to be done


def counted(function, *arguments) -> int:
    # The products one by one: fused attention hides them, or does some of them twice.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops()


@pytest.fixture
def trainer(tiny_file, tmp_path):
    write_dataset(tmp_path, ["ant", "blue car", "tall old clock", "fox"])
    flags = {
        "root": tmp_path,
        "trainer": "MMLoP",
        "backbone": tiny_file,
        "dataset-config-file": "configs/datasets/caltech101.yaml",
        "output-dir": tmp_path / "output",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += ["DATALOADER.NUM_WORKERS", "0", "TRAINER.MMLOP.PROMPT_DEPTH_TEXT", str(DEPTHS[0])]
    words += ["TRAINER.MMLOP.PROMPT_DEPTH_VISION", str(DEPTHS[1])]
    trainer = build_trainer(train.setup_cfg(train.parse_args(words)))
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 10
    return trainer


@pytest.fixture
def shape(trainer) -> flops.Shape:
    return flops.shape_of(trainer.backbone.model, TOKENS, DEPTHS)


def words(trainer) -> flops.Words:
    """Of class names that differ in length."""
    found = flops.words_of(tokenize(class_prompts(trainer.dm.dataset.classnames, TEMPLATE), TOKENS))
    assert found.shared == 5 and len(set(found.own)) > 1
    return found


def test_a_step_needs_hardly_less_than_ours_does(trainer, shape):
    batch = {"img": torch.randn(BATCH, 3, 32, 32), "label": torch.arange(BATCH)}
    needed = flops.needed_step(shape, BATCH, words(trainer))
    assert needed <= counted(trainer.forward_backward, batch) <= SLACK * needed


def test_an_evaluation_needs_hardly_less_than_ours_does(trainer, shape):
    def evaluate():
        with torch.no_grad(), trainer.model.fixed_text():
            trainer.model(torch.randn(BATCH, 3, 32, 32))

    needed = flops.needed_evaluation(shape, BATCH, words(trainer))
    assert needed <= counted(evaluate) <= SLACK * needed


def test_frozen_text_features_need_hardly_less_than_ours_does(trainer, shape):
    texts = class_prompts(trainer.dm.dataset.classnames, "a drawing of the {}.")
    needed = flops.needed_frozen_text(shape, [flops.words_of(tokenize(texts))])
    done = counted(encode_texts, trainer.backbone.model, texts)
    assert needed <= done <= SLACK * needed


def test_plain_code_computes_77_tokens_a_class_and_every_patch(tiny_clip):
    """CLIP's own code, and a step that goes back through all it has computed."""
    shape = flops.shape_of(tiny_clip, 0, (0, 0))
    tokens = clip.tokenize(["ant", "barrel"]).repeat(3, 1)
    images = torch.randn(BATCH, 3, 32, 32)

    def evaluate():
        tiny_clip.encode_image(images) @ tiny_clip.encode_text(tokens).T

    def step(x: torch.Tensor):
        x = tiny_clip.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)[:, 0] @ projection
        torch.autograd.grad(x.sum(), embedded)

    projection = tiny_clip.text_projection
    embedded = tiny_clip.token_embedding(tokens).requires_grad_()
    text = flops.plain_step(shape, 0, len(tokens))
    assert counted(evaluate) == pytest.approx(flops.plain_evaluation(shape, BATCH, 6, 1), rel=0.01)
    assert counted(step, embedded) == pytest.approx(text, rel=0.01)


def test_more_classes_cost_their_own_tokens_alone(shape):
    few, more, most = (
        flops.needed_step(shape, BATCH, flops.Words(5, (4,) * count)) for count in (10, 20, 30)
    )
    assert most - more == more - few
    assert 6 * (more - few) < flops.plain_step(shape, BATCH, 20) - flops.plain_step(
        shape, BATCH, 10
    )
