"""A causal tower gives the same features packed and padded; others are in test_open_clip_towers."""

from dataclasses import dataclass

import pytest
import torch

from prompting import encode_text, encode_texts, tokenize
from prompting.text_encoder import POSITIONS, move_classnames
from prompting.tokenizer import Tokenizer

NAMES = ["cat", "striped red star", "x"]
TEXTS = [f"X X {name}." for name in NAMES]


@dataclass(frozen=True)
class Padded(Tokenizer):
    """CLIP's, as if nothing that texts share stood in front of them."""

    full = True


SHAPES = {
    "for all": lambda: (torch.randn(2, 128), torch.randn(2, 128)),
    "per class": lambda: (torch.randn(3, 2, 128), None, torch.randn(3, 2, 128)),
    "per image": lambda: (torch.randn(4, 1, 2, 128),),
    "for all, then per class": lambda: (torch.randn(2, 128), None, torch.randn(3, 2, 128)),
}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", SHAPES)
def test_padding_changes_nothing_in_a_causal_tower(tiny_clip, assert_exact, kind, position):
    prompts = [None if p is None else p.requires_grad_() for p in SHAPES[kind]()]
    if kind == "per image" and position != "end":
        return  # these take slots in front of the class names
    features = []
    for tokenizer in (Tokenizer(), Padded(30)):
        tokenized = move_classnames(tokenize(TEXTS, 2, tokenizer), NAMES, position, tokenizer)
        assert (tokenized.packing.prefix == 0) == (tokenizer.context_length == 30)
        moved = tokenized.to(torch.device("cpu"))
        features.append(encode_text(tiny_clip, moved, prompts))
    packed, padded = features
    assert_exact(padded, packed)
    leaves, weights = [p for p in prompts if p is not None], torch.randn_like(packed)
    got = torch.autograd.grad((padded * weights).sum(), leaves)
    wanted = torch.autograd.grad((packed * weights).sum(), leaves)
    for a, b in zip(got, wanted, strict=True):
        assert_exact(a, b)


@pytest.mark.parametrize("tokenizer", [Tokenizer(), Padded(30)])
def test_all_of_it_moves_to_a_device(tiny_clip, tokenizer):
    tokenized = tokenize(TEXTS, 2, tokenizer)
    encode_text(tiny_clip, tokenized, SHAPES["per class"]())  # keeps masks, which stay
    moved = tokenized.to(torch.device("meta"))
    for part, before in ((moved, tokenized), (moved.packing, tokenized.packing)):
        assert type(part) is type(before)
        tensors = [value for value in vars(part).values() if isinstance(value, torch.Tensor)]
        assert tensors and all(value.is_meta for value in tensors)
    assert moved.slots == 2 and moved.prefix == tokenized.prefix


def test_without_prompts_it_is_clip(tiny_clip):
    found = encode_texts(tiny_clip, TEXTS, chunk=2, tokenizer=Padded(30))
    torch.testing.assert_close(found, encode_texts(tiny_clip, TEXTS), rtol=0, atol=1e-5)
