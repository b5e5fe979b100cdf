"""Tokens word by word are those of CLIP's own tokeniser."""

import clip
import pytest
import torch

from prompting import class_prompts, tokenizer
from prompting.templates import CUSTOM_TEMPLATES, IMAGENET_TEMPLATES, TCP_ENDINGS
from prompting.tokenizer import tokens_of

NAMES = [
    "cat", "St. John's wort", "C++", "black & white", "AT&amp;T", "caf\u00e9", "500e (EV)",
    "Mercedes-Benz 300-Class", "tab\tname", "two  spaces", "dog 's", "x.", "'s", "<|endoftext|>",
    "\u201ccurly\u201d", "sch\u00c3\u00b6n", "\u4e2d\u6587", "a\x1b[31mb", "DOG", "100%", "__x__",
]  # fmt: skip


@pytest.mark.parametrize(
    "template", [*IMAGENET_TEMPLATES[::7], *CUSTOM_TEMPLATES.values(), *TCP_ENDINGS.values()]
)
def test_word_by_word_is_clip_s_own(template):
    texts = class_prompts(NAMES, template)
    found, expected = tokens_of(texts, 512), clip.tokenize(texts, 512, truncate=True)
    assert torch.equal(found, expected[:, : found.shape[1]])
    assert not expected[:, found.shape[1] :].any() and found.dtype == torch.int64


def test_a_text_beyond_the_longest_is_cut():
    for texts in (["a " * 30, "b"], ["caf\u00e9 " * 30, "a b c d e f g h i j"]):
        assert torch.equal(tokens_of(texts, 10), clip.tokenize(texts, 10, truncate=True))


def test_each_word_is_tokenised_once(monkeypatch):
    calls = []
    real = clip.clip._tokenizer.encode
    monkeypatch.setattr(clip.clip._tokenizer, "encode", lambda t: calls.append(t) or real(t))
    tokenizer._encode_word.cache_clear()
    for template in IMAGENET_TEMPLATES:
        tokens_of(class_prompts([f"name{n} of_a thing{n}" for n in range(50)], template), 512)
    assert len(calls) == len(set(calls))
    words = {w for t in IMAGENET_TEMPLATES for w in t.split() if "{}" not in w}
    assert len(calls) < len(words) + 3 * 50 + 5 < 60 * 50 / 10
