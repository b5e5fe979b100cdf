"""Asks the trainer of the current folder's train.py for its scores, loss and gradients.

    python probe.py QUESTION.json

The trainer is built as train.py builds it, gets parameters, scores a fixed batch and takes one
training step on it. QUESTION:

    settings    what train.py takes from its command line
    parameters  file of values by name; empty: the trainer's own start, and noise on it
    answer      file for parameters, scores (images, classes), gradients by name, and the step's log
"""

import argparse
import json
import runpy
import sys

import torch
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from torch import Tensor

BATCH = 4
FLAGS = ("resume", "source_domains", "target_domains", "transforms", "head", "model_dir")
SWITCHES = {"eval_only": False, "no_train": False, "load_epoch": None}


def build(settings: dict):
    train = runpy.run_path("train.py")
    args = argparse.Namespace(**dict.fromkeys(FLAGS, ""), **SWITCHES, **settings)
    train["setup_cfg"].__globals__["args"] = args  # TaskRes reads it where it has it as a script
    cfg = train["setup_cfg"](args)
    set_random_seed(1)
    return build_trainer(cfg)


def trainable_params(trainer) -> dict[str, Tensor]:
    """Parameters with gradients, ours by their names in the checkpoint; zero-shot CLIP has none."""
    model = getattr(trainer, "model", torch.nn.Module())
    if hasattr(trainer, "build_clip"):
        model = model.prompt_learner
    return {n: p for n, p in model.named_parameters() if p.requires_grad and p.numel()}


def put(parameters: dict[str, Tensor], path: str) -> None:
    """Fill in the values of a file, or move off the start, where many a gradient vanishes."""
    generator = torch.Generator().manual_seed(0)
    values = torch.load(path, weights_only=True) if path else None
    if values is not None and values.keys() != parameters.keys():
        sys.exit(f"parameters are {sorted(parameters)}, and there are {sorted(values)}")
    for name, parameter in parameters.items():
        noise = torch.randn(parameter.shape, generator=generator) * 0.05
        with torch.no_grad():
            parameter.copy_(parameter + noise if values is None else values[name])


def main(question: dict) -> None:
    trainer = build(question["settings"])
    parameters = trainable_params(trainer)
    put(parameters, question["parameters"])
    values = {name: value.detach().clone() for name, value in parameters.items()}
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, 3, *trainer.cfg.INPUT.SIZE, generator=generator)
    other = torch.randn(images.shape, generator=generator)
    labels = torch.arange(BATCH) % trainer.num_classes
    trainer.set_model_mode("eval")
    with torch.no_grad():
        scores = trainer.model_inference(images)
    if isinstance(scores, tuple):  # MMRL's: of [CLS], of the representation, of both, and more
        scores = scores[2]
    answer = {"parameters": values, "scores": scores, "gradients": {}, "log": {}}
    if parameters:
        trainer.set_model_mode("train")
        trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 2
        views = images if trainer.cfg.DATALOADER.K_TRANSFORMS == 1 else [images, other]
        answer["log"] = trainer.forward_backward({"img": views, "label": labels})
        answer["gradients"] = {name: value.grad for name, value in parameters.items()}
        if "alpha" in parameters:  # of LP++, which keeps it from the optimiser
            answer["gradients"]["alpha"] = trainer.alpha_gradient
    torch.save(answer, question["answer"])


with open(sys.argv[1]) as file:
    main(json.load(file))
