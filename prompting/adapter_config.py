"""Describe prompts in `adapter_config.json`, and build the model of such a description.

Shapes are those of the tensors. The configuration holds what tensors do not tell: the kind of
prompt learner, the text around the class names, and the backbone.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prompting.adapters import AdaptedCLIP, Adapters
from prompting.architecture import HEAD_WIDTHS
from prompting.backbone import Backbone
from prompting.class_aware import ClassAwarePrompts
from prompting.conditional import ConditionalCLIP, ShiftedContext
from prompting.coupled import CoupledPrompts
from prompting.low_rank import LowRankPrompts
from prompting.model import PromptedCLIP, frozen_text_features
from prompting.prompts import Context, FullRankPrompts, NoPrompts

FORMAT = 1  # of the folder
State = Mapping[str, Tensor]


class Kind(NamedTuple):
    """Say how a prompt learner is made of its tensors and settings.

    Attributes:
        build: a function of tensors and settings; the values are loaded afterwards.
        model: the classifier around it.
        settings: the arguments of the prompt learner that its tensors do not tell.
    """

    build: Callable[[State, Mapping], nn.Module]
    model: type[PromptedCLIP] = PromptedCLIP
    settings: Callable[[nn.Module], dict] = lambda _: {}


def _low_rank(state: State, _: Mapping) -> LowRankPrompts:
    shared = "up" in state
    ups = [state["up"]] * 2 if shared else [state["text_up"], state["vision_up"]]
    downs = [state["text_down"], state["vision_down"]]
    depths = tuple(len(down) for down in downs)
    return LowRankPrompts(
        depths,
        tokens=tuple(up.shape[1] for up in ups),
        widths=tuple(down.shape[2] for down in downs),
        rank=ups[0].shape[2],
        shared=shared,
        per_layer=max(len(up) for up in ups) == max(depths),
        generator=torch.Generator(),
    )


def _coupled(state: State, _: Mapping) -> CoupledPrompts:
    width = len(state["projections.0.weight"])
    return CoupledPrompts(state["text"], width, torch.Generator())


def _shifted(state: State, _: Mapping) -> ShiftedContext:
    joint_width = state["meta_net.0.weight"].shape[1]
    return ShiftedContext(state["ctx"], joint_width, torch.Generator())


def _class_aware(state: State, settings: Mapping) -> ClassAwarePrompts:
    frozen_text = settings["frozen_text"]
    return ClassAwarePrompts(state["ctx"], settings["layer"], frozen_text, torch.Generator())


def _adapters(state: State, settings: Mapping) -> Adapters:
    hidden = len(state["shared.0.weight"])
    widths = tuple(state[f"{tower}_down.0.weight"].shape[1] for tower in ("text", "vision"))
    layers = range(settings["first"], settings["last"] + 1)
    return Adapters(widths, layers, hidden, settings["scale"], torch.Generator())


def _layers(learner: Adapters) -> dict:
    first, last = learner.layers[0], learner.layers[-1]
    return {"first": first, "last": last, "scale": learner.scale}


KINDS = {
    NoPrompts: Kind(lambda *_: NoPrompts()),
    Context: Kind(lambda state, _: Context(state["ctx"])),
    FullRankPrompts: Kind(lambda state, _: FullRankPrompts(state["text"], state["vision"])),
    LowRankPrompts: Kind(_low_rank),
    CoupledPrompts: Kind(_coupled),
    ShiftedContext: Kind(_shifted, ConditionalCLIP),
    ClassAwarePrompts: Kind(_class_aware, settings=lambda p: {"layer": p.between + 2}),
    Adapters: Kind(_adapters, AdaptedCLIP, _layers),
}


def describe(model: PromptedCLIP) -> dict[str, Any]:
    """Return the configuration of a model: plain values.

    Raises:
        ValueError: its prompt learner is none of the library's.
    """
    kind = type(model.prompt_learner)
    if kind not in KINDS:
        known = ", ".join(each.__name__ for each in KINDS)
        raise ValueError(
            f"Prompts of a {kind.__name__} cannot be saved: the library has {known}; add it to "
            "KINDS in prompting/adapter_config.py."
        )
    # Other templates than these had a part in the training only.
    used = model.templates if model.drift_correction or kind is ClassAwarePrompts else ()
    return {
        "format": FORMAT,
        "prompt_learner": kind.__name__,
        "settings": KINDS[kind].settings(model.prompt_learner),
        "template": model.template,
        "position": model.position,
        "drift_correction": model.drift_correction,
        "templates": list(used),
        "ensemble": list(model.ensemble),
        "classnames": list(model.classnames),
        "backbone": describe_backbone(model.backbone),
        "precision": model.precision,
    }


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """Return name and hash, and what a file cannot say, where it was given.

    The name of a file is its own, for a path says where somebody's files are.
    """
    model, slash, file = backbone.name.partition("/")  # open_clip:ARCHITECTURE/FILE
    if not model.startswith("open_clip:"):
        model, slash, file = "", "", backbone.name
    path = Path(file).expanduser()
    name = f"{model}{slash}{path.name}" if path.is_file() else backbone.name
    found: dict[str, Any] = {"name": name, "sha256": backbone.sha256}
    if backbone.architecture.activation:
        found["activation"] = backbone.architecture.activation
    if backbone.architecture.head_widths != HEAD_WIDTHS:
        found["head_widths"] = list(backbone.architecture.head_widths)
    return found


def check_classes(state: State, own: Sequence[str], asked: Sequence[str]) -> None:
    """Refuse other class names where each class has its own context, by a ValueError."""
    if "ctx" in state and state["ctx"].ndim == 3 and list(own) != list(asked):
        raise ValueError(
            f"These prompts have a context for each of the {len(own)} classes that they were "
            "trained on (CSC), and other class names were given: give none."
        )


def build(
    config: Mapping[str, Any], state: State, backbone: Backbone, classnames: Sequence[str]
) -> PromptedCLIP:
    """Return the model of a configuration and its tensors, for any class names.

    Raises:
        KeyError, TypeError, RuntimeError: the two do not fit together, or not this backbone.
        ValueError: prompts per class and other classes; a class name too long.
    """
    kinds = {kind.__name__: kind for kind in KINDS}
    kind = KINDS[kinds[config["prompt_learner"]]]
    check_classes(state, config["classnames"], classnames)
    settings, templates = dict(config["settings"]), config["templates"]
    if kind.build is _class_aware:
        settings["frozen_text"] = frozen_text_features(backbone, classnames, templates)
    learner = kind.build(state, settings).to(backbone.device)
    learner.load_state_dict(state)
    model = kind.model(
        backbone,
        learner,
        classnames,
        config["template"],
        templates=templates if config["drift_correction"] else (),
        drift_correction=config["drift_correction"],
        position=config["position"],
    )
    model.templates = tuple(templates)
    if config["ensemble"]:
        model.fix_ensemble(config["ensemble"])
    return model.eval().requires_grad_(False)
