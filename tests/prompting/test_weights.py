"""Files in the layouts that people have, with tiny random weights."""

import clip
import pytest
import torch
from clip.model import CLIP

from prompting import load_backbone


@pytest.fixture
def state(tiny_clip):
    return {key: value.clone() for key, value in tiny_clip.state_dict().items()}


@pytest.fixture
def load(tmp_path):
    def load(content, **options):
        torch.save(content, tmp_path / "weights.pth")
        return load_backbone(str(tmp_path / "weights.pth"), activation="quick_gelu", **options)

    return load


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


WRAPPED = {
    "DataParallel": lambda s: prefixed("module.", s),
    "torch.compile": lambda s: prefixed("_orig_mod.", s),
    "both": lambda s: prefixed("module._orig_mod.", s),
    "towers compiled": lambda s: {k.replace("visual.", "visual._orig_mod."): s[k] for k in s},
    "Lightning": lambda s: {"state_dict": prefixed("model.", s), "epoch": 3},
    "clip": lambda s: prefixed("clip.", s),
    "clip_model in model": lambda s: {"model": prefixed("model.clip_model.", s)},
    "DeepSpeed": lambda s: {"module": s, "dp_world_size": 1},
    "open_clip's training": lambda s: {
        "epoch": 1, "name": "run", "state_dict": prefixed("module.", s),
        "optimizer": {"state": {0: {"step": torch.zeros(())}}, "param_groups": [{"lr": 0.1}]},
        "scaler": {"scale": 65536.0},
    },
    "nested twice": lambda s: {"checkpoint": {"model_state_dict": s}},
    "open_clip's old mask": lambda s: {**s, "attn_mask": torch.full((77, 77), -torch.inf).triu(1)},
    "a bias of the logits": lambda s: {**s, "logit_bias": torch.tensor(-10.0)},
    "a scale with a dimension": lambda s: {**s, "logit_scale": s["logit_scale"].reshape(1)},
    "double precision": lambda s: {key: value.double() for key, value in s.items()},
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_are_taken_off(tiny_clip, state, load, kind):
    backbone = load(WRAPPED[kind](state))
    tokens, images = clip.tokenize(["a photo of a cat."]), torch.randn(2, 3, 32, 32)
    assert torch.equal(backbone.model.encode_text(tokens), tiny_clip.encode_text(tokens))
    assert torch.equal(backbone.model.encode_image(images), tiny_clip.encode_image(images))
    assert backbone.sha256 == load(state).sha256


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_read_as_they_are(state, load, dtype):
    halved = load({key: value.to(dtype) for key, value in state.items()}).model.state_dict()
    for key, value in state.items():
        assert torch.equal(halved[key], value.to(dtype).float())


def hugging_face(state, siglip=False):
    found = {
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "logit_scale": state["logit_scale"],
    }
    return {**found, "vision_model.head.probe": torch.zeros(1, 1, 8)} if siglip else found


def renamed(old, new):
    return lambda s: {key.replace(old, new): value for key, value in s.items()}


def without(state, *beginnings):
    return {key: value for key, value in state.items() if not key.startswith(beginnings)}


def changed(key, change):
    return lambda s: {**s, key: change(s[key])}


TEXT_TOWER = ("token_", "transformer.", "positional_", "ln_final", "text_projection", "logit")
WEIGHT = "transformer.resblocks.0.mlp.c_fc.weight"
OPEN_CLIP = 'name its architecture, "open_clip:ARCHITECTURE/FILE"'
REFUSED = {
    "Hugging Face": (hugging_face, "has the layout of Hugging Face's transformers"),
    "Hugging Face's SigLIP": (lambda s: hugging_face(s, True), "Hugging Face's layout of SigLIP"),
    "open_clip's CustomTextCLIP": (
        lambda s: {**prefixed("text.", without(s, "visual.")), **without(s, *TEXT_TOWER)}, OPEN_CLIP
    ),
    "open_clip with timm": (renamed("visual.", "visual.trunk."), OPEN_CLIP),
    "layer scale": (lambda s: {**s, "visual.transformer.resblocks.0.ls_1.gamma": torch.ones(192)},
                    OPEN_CLIP),
    "EVA-CLIP": (renamed("visual.transformer.res", "visual."), "has the layout of EVA-CLIP"),
    "timm": (lambda s: {"patch_embed.proj.weight": torch.zeros(2), "cls_token": torch.zeros(2)},
             "is an image model of timm, without a text tower"),
    "CustomCLIP": (lambda s: {**prefixed("image_encoder.", s), **prefixed("text_encoder.", s)},
                   "has the layout of CoOp's CustomCLIP"),
    "Long-CLIP": (lambda s: {**s, "positional_embedding_res": torch.zeros(248, 128)},
                  "is a Long-CLIP"),
    "LoRA": (lambda s: {**s, f"{WEIGHT[:-7]}.lora_A.weight": torch.zeros(2)},
             "holds LoRA adapters next to the weights .*merge them into the weights first"),
    "prompts": (lambda s: {"state_dict": {"prompt_learner.ctx": torch.zeros(4, 512)}},
                "holds prompts .*as --model-dir"),
    "image tower": (lambda s: without(s, *TEXT_TOWER), "holds the image tower of a CLIP alone"),
    "wrapped image tower": (lambda s: prefixed("module.", without(s, *TEXT_TOWER)),
                            "holds the image tower of a CLIP alone"),
    "text tower": (lambda s: without(s, "visual."), "holds the text tower of a CLIP alone"),
    "a classifier on top": (lambda s: {**prefixed("model.", s), "head.weight": torch.zeros(2)},
                            'holds a CLIP under "model." and other weights next to it, .*head'),
    "two of them": (lambda s: {"state_dict": s, "state_dict_ema": s},
                    "holds several sets of weights .state_dict, state_dict_ema.: save the one"),
    "no logit scale": (lambda s: without(s, "logit"), "both towers of a CLIP and no logit_scale"),
    "the scale itself": (changed("logit_scale", torch.exp), "logit_scale of .*its logarithm"),
    "NaN": (changed(WEIGHT, lambda w: w / 0), f"infinite values or NaN in {WEIGHT}: it is damaged"),
    "quantised": (changed(WEIGHT, torch.Tensor.char), f"{WEIGHT} in torch.int8: quantised"),
    "quantised to float8": (changed(WEIGHT, lambda w: w.to(torch.float8_e4m3fn)),
                            f"{WEIGHT} in torch.float8_e4m3fn: quantised"),
    "another vocabulary": (changed("token_embedding.weight", lambda w: w[:32000]),
                           "has 32000 tokens, and CLIP's tokenizer 49408"),
    "no square": (changed("visual.positional_embedding", lambda w: w[:13]),
                  "has positions for 12 patches, which are no square"),
    "a projection transposed": (changed("text_projection", lambda w: w.T), "do not fit"),
    "a layer that lacks": (lambda s: without(s, "transformer.resblocks.1."), "do not fit"),
    "all under transformer": (lambda s: prefixed("transformer.", s),
                              'holds a CLIP under "transformer." and nothing else: save the CLIP'),
    "nothing": (lambda s: {}, "holds no CLIP of OpenAI's architecture: .*found no weights"),
    "a tensor": (lambda s: s[WEIGHT], "holds no CLIP of OpenAI's .*found no weights"),
    "a list": (lambda s: [s[WEIGHT]], "holds no CLIP of OpenAI's .*found no weights"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_another_layout_is_named(state, load, kind):
    change, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message) as error:
        load(change(state))
    assert "weights.pth" in str(error.value) and len(str(error.value).splitlines()) == 1


def test_heads_that_do_not_divide_a_tower(load):
    torch.manual_seed(0)
    narrow = CLIP(32, 32, 1, 192, 8, 77, 49408, 96, 3, 1)  # the text tower has heads of 32
    with pytest.raises(ValueError, match="text tower of width 96, which heads of 64 do not divide"):
        load(narrow.state_dict())
    tokens = clip.tokenize(["a cat."])
    found = load(narrow.state_dict(), head_widths=(32, 64)).model.encode_text(tokens)
    torch.testing.assert_close(found, narrow.encode_text(tokens))


def test_a_resnet_has_heads_of_64(load):
    torch.manual_seed(0)
    state = CLIP(64, 32, (1, 1, 1, 1), 64, None, 77, 49408, 64, 1, 1).state_dict()
    with pytest.raises(ValueError, match="has a ResNet image tower: its heads are 64 wide"):
        load(state, head_widths=(64, 32))


def test_memory_that_is_used_up_is_not_the_file_s_fault(state, load, monkeypatch):
    def used_up(*_, **__):
        raise MemoryError("no more")

    monkeypatch.setattr(torch, "load", used_up)
    with pytest.raises(MemoryError, match="no more"):
        load(state)


def test_what_stands_for_a_file(tmp_path):
    pointer = tmp_path / "weights.pth"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(ValueError, match="is a pointer of Git LFS .*fetch these by git lfs pull"):
        load_backbone(str(pointer))
    with pytest.raises(ValueError, match="is a folder: pass the file of weights in it"):
        load_backbone(str(tmp_path))
