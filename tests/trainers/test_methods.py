"""Each method against a plain reference: 77 tokens, CLIP's own blocks, the loss of its paper."""

import json
from pathlib import Path

import clip
import pytest
import torch
from dassl.engine import TRAINER_REGISTRY
from torch.func import functional_call

from experiment.config import CONFIGS
from prompting.templates import IMAGENET_TEMPLATES, IMAGENET_TEMPLATES_SELECT
from tests.reference import cross_entropy, ensemble, image_tower, text_tower, unit

NAMES = ["face", "leopard", "motorbike", "accordion"]  # the miniature data set's classes
WORDS = "a photo of a"
IMAGES = 3
DESCRIPTIONS = Path(__file__).with_name("descriptions.json")  # a sentence for each class


def sentences(words):
    return [f"{words} {name}." for name in NAMES]


def for_all(prompt):
    return prompt.expand(len(NAMES), -1, -1)


# One reference per method: (model, learner, images, labels) -> loss


def coop(model, learner, images, labels, words=WORDS):
    return cross_entropy(_coop_logits(model, learner, images, words), labels)


def _coop_logits(model, learner, images, words=WORDS):
    ctx = learner.ctx if learner.ctx.ndim == 3 else for_all(learner.ctx)
    text = unit(text_tower(model, sentences(words), {0: ctx}))
    return model.logit_scale.exp() * unit(image_tower(model, images)) @ text.T


def coop_for_each_class(model, learner, images, labels):
    assert learner.ctx.shape == (4, 3, 128)
    return coop(model, learner, images, labels, "X X X")


def cocoop(model, learner, images, labels):
    image, net = unit(image_tower(model, images)), learner.meta_net
    rows = []
    for f in image:
        shift = net[2](net[0](f).clamp(min=0))
        text = unit(text_tower(model, sentences(WORDS), {0: for_all(learner.ctx + shift)}))
        rows.append(model.logit_scale.exp() * text @ f)
    return cross_entropy(torch.stack(rows), labels)


def kgcoop(model, learner, images, labels):
    text = unit(text_tower(model, sentences(WORDS), {0: for_all(learner.ctx)}))
    frozen = unit(model.encode_text(clip.tokenize(sentences(WORDS))))
    logits = model.logit_scale.exp() * unit(image_tower(model, images)) @ text.T
    return cross_entropy(logits, labels) + 8 * (1 - (text * frozen).sum(dim=1).mean())


def vpt(model, learner, images, labels):
    text = unit(model.encode_text(clip.tokenize(sentences(WORDS))))
    image = unit(image_tower(model, images, learner.vision))
    return cross_entropy(model.logit_scale.exp() * image @ text.T, labels)


def _both(model, text_prompts, vision_prompts, images):
    deep = {layer: for_all(prompt) for layer, prompt in enumerate(text_prompts)}
    text = unit(text_tower(model, sentences(WORDS), deep))
    image = unit(image_tower(model, images, vision_prompts))
    return image, text, model.logit_scale.exp() * image @ text.T


def ivlp(model, learner, images, labels):
    return cross_entropy(_both(model, learner.text, learner.vision, images)[2], labels)


def maple(model, learner, images, labels):
    vision = [p(text) for p, text in zip(learner.projections, learner.text, strict=True)]
    return cross_entropy(_both(model, learner.text, vision, images)[2], labels)


def coprompt(model, learner, images, labels):
    images, other = images
    prompts, deep = learner.prompts, dict(enumerate(map(for_all, learner.prompts.text)))
    vision = [p(text) for p, text in zip(prompts.projections, prompts.text, strict=True)]

    def adapted(features, adapter, ratio):
        hidden = (features @ adapter.down.weight.T).clamp(min=0)
        mixed = (hidden @ adapter.up.weight.T).clamp(min=0)
        return unit(ratio * mixed + (1 - ratio) * features)

    image = adapted(image_tower(model, images, vision), learner.image, 0.3)
    text = adapted(text_tower(model, sentences(WORDS), deep), learner.text, 0.4)
    described = [texts[0] for texts in json.loads(DESCRIPTIONS.read_text()).values()]
    frozen = unit(model.encode_image(other)), unit(model.encode_text(clip.tokenize(described)))
    far = (1 - (f * own).sum(dim=1).mean() for f, own in zip(frozen, (image, text), strict=True))
    return cross_entropy(model.logit_scale.exp() * image @ text.T, labels) + 2 * sum(far)


def promptsrc(model, learner, images, labels):
    image, text, logits = _both(model, learner.text, learner.vision, images)
    frozen_image = unit(model.encode_image(images))
    frozen_text = ensemble(model, NAMES, IMAGENET_TEMPLATES)
    frozen = (model.logit_scale.exp() * frozen_image @ frozen_text.T).softmax(dim=1)
    divergence = (frozen * (frozen.log() - logits.log_softmax(dim=1))).sum() / logits.numel()
    return (
        cross_entropy(logits, labels)
        + 10 * (image - frozen_image).abs().mean()
        + 25 * (text - frozen_text).abs().mean()
        + divergence
    )


def tcp(model, learner, images, labels):
    frozen = unit(model.encode_text(clip.tokenize(sentences(WORDS))))
    hidden = learner.meta_net[0](frozen)
    deep = learner.meta_net[2](hidden * torch.sigmoid(1.702 * hidden)).reshape(4, 4, 128)
    text = unit(text_tower(model, sentences("X X X X"), {0: for_all(learner.ctx), 2: deep}))
    logits = model.logit_scale.exp() * unit(image_tower(model, images)) @ text.T
    return cross_entropy(logits, labels) + 8 * (1 - (text * frozen).sum(dim=1).mean())


def mma(model, learner, images, labels):
    def adapter(tower, layer):
        down, up = getattr(learner, f"{tower}_down"), getattr(learner, f"{tower}_up")

        def apply(x):
            hidden = learner.shared[layer](down[layer](x).clamp(min=0)).clamp(min=0)
            return 0.5 * up[layer](hidden)

        return apply

    text, image = ({layer + 1: adapter(t, layer) for layer in range(2)} for t in ("text", "vision"))
    text = unit(text_tower(model, sentences(WORDS), adapters=text))
    image = unit(image_tower(model, images, adapters=image))
    return cross_entropy(model.logit_scale.exp() * image @ text.T, labels)


def clip_lora(model, learner, images, labels):
    updated = {}
    for tower, blocks in (("text", "transformer"), ("vision", "visual.transformer")):
        down, up = getattr(learner, f"{tower}_down"), getattr(learner, f"{tower}_up")
        for layer, (a, b) in enumerate(zip(down, up, strict=True)):
            name = f"{blocks}.resblocks.{layer}.attn.in_proj_weight"
            updates = torch.cat([b[part] @ a[part] for part in range(3)])
            updated[name] = model.get_parameter(name) + 0.5 / 3**0.5 * updates
    tokens = clip.tokenize(sentences(WORDS))
    return cross_entropy(functional_call(model, updated, (images, tokens))[0], labels)


def tip_adapter(model, learner, images, labels):
    image = unit(model.encode_image(images))
    text = unit(model.encode_text(clip.tokenize(sentences(WORDS))))
    affinity = image @ learner.keys.T
    cache = (-1 * (2 - 2 * affinity)).exp() @ torch.eye(4)[learner.labels]
    return cross_entropy(model.logit_scale.exp() * image @ text.T + 3 * cache, labels)


def clip_adapter(model, learner, images, labels):
    image = model.encode_image(images)
    hidden = (image @ learner.image.down.weight.T).clamp(min=0)
    image = unit(0.2 * (hidden @ learner.image.up.weight.T).clamp(min=0) + 0.8 * image)
    text = unit(model.encode_text(clip.tokenize(sentences(WORDS))))
    return cross_entropy(model.logit_scale.exp() * image @ text.T, labels)


def taskres(model, learner, images, labels):
    frozen = model.encode_text(clip.tokenize(sentences(WORDS)))
    text = unit(frozen + 0.7 * learner.residuals)
    logits = model.logit_scale.exp() * unit(model.encode_image(images)) @ text.T
    return cross_entropy(logits, labels)


def lp_plus_plus(model, learner, images, labels):
    image = unit(model.encode_image(images))
    text = unit(model.encode_text(clip.tokenize(sentences(WORDS))))
    logits = image @ learner.weight.T + learner.bias + image @ text.T * learner.alpha
    return cross_entropy(logits, labels)


def mmrl(model, learner, images, labels):
    def insert(x, layer, maps):
        """x is (L, N, d): tokens behind the first one, as in MMRL's blocks."""
        if layer in (2, 3):
            tokens = maps[layer - 2](learner.tokens)[:, None].expand(-1, x.shape[1], -1)
            x = torch.cat([x[:1], tokens, x[1:] if layer == 2 else x[1 + len(tokens) :]])
        return x

    tokens = clip.tokenize(sentences(WORDS))
    x = (model.token_embedding(tokens) + model.positional_embedding).permute(1, 0, 2)
    for layer, block in enumerate(model.transformer.resblocks):
        x = insert(x, layer, learner.text)
        mask = torch.full((len(x), len(x)), float("-inf")).triu(1)
        y = block.ln_1(x)
        x = x + block.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        x = x + block.mlp(block.ln_2(x))
    x = model.ln_final(x.permute(1, 0, 2))
    text = unit(x[range(4), tokens.argmax(dim=1) + 3] @ model.text_projection)

    visual = model.visual
    x = visual.conv1(images).flatten(2).permute(0, 2, 1)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
    x = visual.ln_pre(x + visual.positional_embedding).permute(1, 0, 2)
    for layer, block in enumerate(visual.transformer.resblocks):
        x = block(insert(x, layer, learner.vision))
    image = unit(visual.ln_post(x[0]) @ visual.proj)
    rep = unit(visual.ln_post(x[1:4]).mean(dim=0) @ learner.proj)

    scale = model.logit_scale.exp()
    frozen = unit(model.encode_image(images)), unit(model.encode_text(tokens))
    loss = 0.7 * cross_entropy(scale * image @ text.T, labels)
    loss = loss + 0.3 * cross_entropy(scale * rep @ text.T, labels)
    far = (1 - (f * own).sum(dim=1).mean() for f, own in zip(frozen, (image, text), strict=True))
    return loss + 2 * sum(far)


DEPTHS = ("PROMPT_DEPTH_TEXT", "3", "PROMPT_DEPTH_VISION", "4")
LORA = ("CLIPLORA.DROPOUT", "0", "CLIPLORA.RANK", "3", "CLIPLORA.ALPHA", "0.5")
ADAPTERS = ("ADAPTER_START", "2", "ADAPTER_END", "3", "ADAPTER_DIM", "8", "ADAPTER_SCALE", "0.5")
METHODS = {
    "CoOp": ("CoOp", coop, ()),
    "CoOp, class-specific": ("CoOp", coop_for_each_class, ("COOP.CSC", "True") + (
        "COOP.CTX_INIT", "", "COOP.N_CTX", "3")),
    "CoCoOp": ("CoCoOp", cocoop, ()),
    "KgCoOp": ("KgCoOp", kgcoop, ()),
    "VPT": ("VPT", vpt, ("VPT.PROMPT_DEPTH_VISION", "3")),
    "IVLP": ("IVLP", ivlp, tuple(d if i % 2 else f"IVLP.{d}" for i, d in enumerate(DEPTHS))),
    "MaPLe": ("MaPLe", maple, ("MAPLE.PROMPT_DEPTH", "3")),
    "CoPrompt": ("CoPrompt", coprompt, (
        "CoPrompt.PROMPT_DEPTH", "3", "CoPrompt.IMAGE_RATIO", "0.3", "CoPrompt.TEXT_RATIO", "0.4",
        "CoPrompt.W", "2", "CoPrompt.DESCRIPTIONS", str(DESCRIPTIONS))),
    "PromptSRC": ("PromptSRC", promptsrc, tuple(
        d if i % 2 else f"PROMPTSRC.{d}" for i, d in enumerate(DEPTHS))),
    "TCP": ("TCP", tcp, ("COOP.TCP_LAYER", "3")),
    "MultiModalAdapter": ("MultiModalAdapter", mma, tuple(
        a if i % 2 else f"MMADAPTER.{a}" for i, a in enumerate(ADAPTERS))),
    "CLIPLoRA": ("CLIPLoRA", clip_lora, LORA),
    "CLIPAdapter": ("CLIPAdapter", clip_adapter, ()),
    "MMRL": ("MMRL", mmrl, (
        "MMRL.REP_LAYERS", "[3, 4]", "MMRL.N_REP_TOKENS", "3", "MMRL.REP_DIM", "16",
        "MMRL.REG_WEIGHT", "2")),
    "LPPlusPlus": ("LPPlusPlus", lp_plus_plus, ()),
    "TaskRes": ("TaskRes", taskres, ("TaskRes.RESIDUAL_SCALE", "0.7")),
    "TipAdapterF": ("TipAdapterF", tip_adapter, (
        "TIPADAPTER.ALPHA", "3", "TIPADAPTER.BETA", "2")),
}  # fmt: skip


def prepared(build, name, precision="fp32"):
    trainer_name, reference, pairs = METHODS[name]
    flat = [p if i % 2 else f"TRAINER.{p}" for i, p in enumerate(pairs)]
    node = TRAINER_REGISTRY.get(trainer_name).node
    trainer = build(trainer_name, *flat, f"TRAINER.{node}.PREC", precision)
    torch.manual_seed(1)
    with torch.no_grad():  # away from the start, where biases are zero and layers are equal
        for parameter in trainer.model.prompt_learner.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
            if parameter.ndim == 1:  # biases: two ReLUs of CoCoOp's would be dead otherwise
                parameter.add_(0.2)
    views = (2,) if name == "CoPrompt" else ()
    images = torch.randn(*views, IMAGES, 3, 32, 32)
    return trainer, reference, images, torch.tensor([0, 3, 1])


def by_name(trainer, gradients):
    """Gradients of `trainable_params` under the names of the parameters."""
    names = (n for n, p in trainer.model.prompt_learner.named_parameters() if p.requires_grad)
    return dict(zip(names, gradients, strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradients_are_the_paper_s(build, name):
    trainer, reference, images, labels = prepared(build, name)
    model, learner = trainer.model.clip, trainer.model.prompt_learner
    named = [(n, p) for n, p in learner.named_parameters() if p.numel()]
    terms, logits = trainer.loss_terms(images, labels)
    found = by_name(trainer, trainer.gradients(terms))
    loss = reference(model, learner, images, labels)
    expected = torch.autograd.grad(loss, [p for _, p in named])

    torch.testing.assert_close(sum(terms.values()), loss, rtol=1e-4, atol=1e-4)
    assert logits.shape == (IMAGES, 4)
    # MMA's published gradients leave the adapters' scale out.
    factor = 1 / 0.5 if name == "MultiModalAdapter" else 1.0
    for (parameter_name, _), gradient in zip(named, expected, strict=True):
        torch.testing.assert_close(
            found[parameter_name], factor * gradient, rtol=1e-4, atol=1e-4, msg=parameter_name
        )
        assert gradient.abs().max() > 1e-6, parameter_name


@pytest.mark.parametrize("precision", ["amp", "bf16", "fp16"])
@pytest.mark.parametrize("name", METHODS)
def test_other_precisions_are_near_fp32(build, name, precision):
    """The gradients point the same way; they are fp32 like what they belong to."""
    directions = []
    for kind in ("fp32", precision):
        trainer, _, images, labels = prepared(build, name, kind)
        terms, logits = trainer.loss_terms(images, labels)
        gradients = [g for g in trainer.gradients(terms) if g is not None]
        assert all(g.dtype == logits.dtype == torch.float32 for g in gradients)
        directions.append(torch.cat([g.flatten() for g in gradients]))
    assert torch.cosine_similarity(*directions, dim=0) > 0.98


def test_adapters_gradients_survive_fp16(build):
    """Undoing a scale of 0.001 must not happen in fp16, whose largest number is 65,504."""
    pairs = ("ADAPTER_START", "2", "ADAPTER_END", "3", "ADAPTER_SCALE", "0.001")
    trainer = build(
        "MultiModalAdapter",
        *(p if i % 2 else f"TRAINER.MMADAPTER.{p}" for i, p in enumerate(pairs)),
    )
    learner, x = trainer.model.prompt_learner, torch.randn(2, 5, 128)
    with torch.autocast("cpu", torch.float16):
        y = learner.text()[1](x)
    (y * 100.0).sum().backward()  # such as the gradient scaler gives
    assert all(p.grad.isfinite().all() for p in learner.text_up[0].parameters())


def test_dropout_of_lora_is_before_the_updates_alone(build):
    """Queries, keys and values each drop their own; in an evaluation nothing is dropped."""
    trainer, _, images, _ = prepared(build, "CLIPLoRA")
    learner, attention = trainer.model.prompt_learner, trainer.model.clip.transformer.resblocks[2]
    attention, x = attention.attn, torch.randn(2, 5, 128)
    learner.dropout, width = 0.25, 128
    torch.manual_seed(3)
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    found = learner.text()[2](weight, bias, x, slice(width, None))
    torch.manual_seed(3)
    expected = torch.nn.functional.linear(x, weight[width:], bias[width:])
    for part in (1, 2):
        dropped = torch.nn.functional.dropout(x, 0.25)
        update = learner.text_up[2, part] @ learner.text_down[2, part]
        expected[..., (part - 1) * width : part * width] += learner.scale * dropped @ update.T
    torch.testing.assert_close(found, expected)
    assert not torch.equal(trainer.model(images), trainer.model(images))
    learner.eval()
    assert torch.equal(trainer.model(images), trainer.model(images))


def test_prograd_takes_off_what_conflicts(build):
    """Two gradients by autograd on the plain towers, then the paper's equation 4."""
    trainer = build("ProGrad", "TRAINER.COOP.N_CTX", "6", "LOSS.T", "2.0", "LOSS.LAMBDA", "0.7")
    learner, model = trainer.model.prompt_learner, trainer.model.clip
    assert torch.equal(learner.ctx[:2], torch.zeros(2, 128))  # "a photo of a" behind two zeros
    with torch.no_grad():
        learner.ctx.add_(torch.randn_like(learner.ctx) * 0.3)
    images = torch.randn(IMAGES, 3, 32, 32)
    frozen = unit(model.encode_text(clip.tokenize(sentences(WORDS))))
    conflicts = 0
    for labels in ([0, 3, 1], [1, 1, 2], [2, 0, 0], [3, 2, 3]):
        labels = torch.tensor(labels)
        terms, _ = trainer.loss_terms(images, labels)
        (found,) = trainer.gradients(terms)
        logits = _coop_logits(model, learner, images, "X X a photo of a")
        zero_shot = model.logit_scale.exp() * unit(image_tower(model, images)) @ frozen.T
        soft = (zero_shot / 2).softmax(dim=1)
        distance = -(soft * (logits / 2).log_softmax(dim=1)).sum(dim=1).mean() * 4
        own = torch.autograd.grad(cross_entropy(logits, labels), learner.ctx, retain_graph=True)[0]
        general = torch.autograd.grad(distance, learner.ctx)[0]
        angle = (own * general).sum()
        expected = own - 0.7 * angle / general.norm() ** 2 * general if angle < 0 else own
        conflicts += bool(angle < 0)
        torch.testing.assert_close(terms["loss_general"], distance, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert 0 < conflicts < 4  # both cases were seen


def test_ensemble_of_templates(build):
    """Normalised features are averaged (CLIP's notebook), of seven templates and the data set's."""
    trainer, images = build("ZeroshotCLIP2"), torch.randn(IMAGES, 3, 32, 32)
    model = trainer.model.clip
    means = []
    for name in NAMES:
        texts = [t.replace("{}", name) for t in (*IMAGENET_TEMPLATES_SELECT, "a photo of a {}.")]
        means.append(unit(model.encode_text(clip.tokenize(texts))).mean(dim=0))
    expected = (
        model.logit_scale.exp() * unit(model.encode_image(images)) @ unit(torch.stack(means)).T
    )
    torch.testing.assert_close(trainer.model(images), expected)
    build("ZeroshotCLIP2")  # twice in one process: upstream's list of templates grows
    torch.testing.assert_close(trainer.model(images), expected)


# Parameters at ViT-B/16 shapes, as published or counted in the methods' code bases

PUBLISHED = {
    ("CoOp", "few_shot"): 8_192,
    ("CoOp", "base2new"): 2_048,
    ("CoCoOp", "base2new"): 35_360,
    ("KgCoOp", "base2new"): 2_048,
    ("ProGrad", "base2new"): 8_192,
    ("VPT", "base2new"): 8 * 12 * 768,
    ("MaPLe", "base2new"): 3_555_072,
    ("IVLP", "base2new"): 46_080,
    ("PromptSRC", "base2new"): 46_080,
    ("PromptSRC", "imagenet"): 15_360,
    ("TCP", "base2new"): 331_904,
    ("MultiModalAdapter", "base2new"): 674_560,
    ("CLIPLoRA", "base2new"): 184_320,
    ("CLIPAdapter", "few_shot"): 131_072,
    ("TaskRes", "few_shot"): 4 * 512,  # 4 classes
    ("MMRL", "base2new"): 4_992_256,
    ("CoPrompt", "base2new"): 12 * (4 * 512 + 513 * 768) + 4 * 512 * 128,
    ("TwoStage", "base2new"): 61_440 + 4 * 512,  # of layer norms, and the classifier's
    ("LPPlusPlus", "few_shot"): 4 * (512 + 2),
    ("TipAdapter", "few_shot"): 0,
    ("TipAdapterF", "few_shot"): 4 * 2 * 512,  # 4 classes, 2 shots
    ("MMLoP", "base2new"): 11_556,
    ("ZeroshotCLIP", "base2new"): 0,
    ("ZeroshotCLIP2", "base2new"): 0,
}


@pytest.fixture(scope="module")
def vit_b_16():
    """Random weights in the shapes of ViT-B/16, loaded once."""
    from clip.model import CLIP

    from prompting import Backbone

    torch.manual_seed(0)
    model = CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12).eval().requires_grad_(False)
    return Backbone(model, "ViT-B/16", "0" * 64, "fp32", torch.device("cpu"))


@pytest.mark.parametrize(("method", "config"), PUBLISHED)
def test_parameters_at_vit_b_16_shapes(build, vit_b_16, monkeypatch, method, config):
    monkeypatch.setattr("trainers.base.load_backbone", lambda *_, **__: vit_b_16)
    path = str(CONFIGS / "trainers" / method / f"{config}.yaml")
    trainer = build(method, config=path, backbone="")
    assert trainer.trainable_parameters == PUBLISHED[method, config]
