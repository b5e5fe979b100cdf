import pytest
import torch
import torch.nn.functional as F

from prompting import (
    ArgumentError,
    Backbone,
    Context,
    FullRankPrompts,
    NoPrompts,
    PromptedCLIP,
    encode_text,
    encode_texts,
    frozen_text_features,
    initial_prompts,
    load_backbone,
    tokenize,
    uniform_drift_correction,
)
from prompting.precision import WEIGHT_DTYPES

NAMES = ["cat", "striped_star", "dog house"]
TEMPLATES = ("a photo of a {}.", "art of a {}.", "{} texture.")


def learner_for(backbone):
    generator = torch.Generator().manual_seed(0)
    start = initial_prompts(backbone, "a photo of a", (4, 4), (3, 3), generator)
    return FullRankPrompts(*start)


def test_frozen_text_is_the_normalised_mean_of_unnormalised_features(tiny_backbone):
    import clip

    found = frozen_text_features(tiny_backbone, NAMES, TEMPLATES)
    for c, name in enumerate(NAMES):
        texts = [template.replace("{}", name.replace("_", " ")) for template in TEMPLATES]
        mean = tiny_backbone.model.encode_text(clip.tokenize(texts)).mean(dim=0)
        torch.testing.assert_close(found[c], mean / mean.norm())


def test_zero_shot_is_clip(tiny_backbone):
    import clip

    images = torch.randn(2, 3, 32, 32)
    model = PromptedCLIP(tiny_backbone, NoPrompts(), NAMES, "a photo of a {}.")
    tokens = clip.tokenize(
        ["a photo of a cat.", "a photo of a striped star.", "a photo of a dog house."]
    )
    torch.testing.assert_close(model(images), tiny_backbone.model(images, tokens)[0])


def test_drift_correction_is_in_the_logits(tiny_backbone):
    learner, images = learner_for(tiny_backbone), torch.randn(2, 3, 32, 32)
    plain = PromptedCLIP(tiny_backbone, learner, NAMES, "a photo of a {}.", TEMPLATES)
    corrected = PromptedCLIP(tiny_backbone, learner, NAMES, "a photo of a {}.", TEMPLATES, True)
    text_prompts, vision_prompts = learner()
    assert plain.correct(plain.frozen_text) is plain.frozen_text
    text = uniform_drift_correction(plain.text_features(text_prompts), plain.frozen_text)
    image = plain.image_features(images, vision_prompts)
    expected = tiny_backbone.model.logit_scale.exp() * image @ text.T
    torch.testing.assert_close(corrected(images), expected)
    assert not torch.allclose(corrected(images), plain(images), atol=1e-3)


def test_text_is_encoded_once_in_an_evaluation(tiny_backbone, monkeypatch):
    model = PromptedCLIP(tiny_backbone, learner_for(tiny_backbone), NAMES, "a photo of a {}.")
    images, calls = torch.randn(2, 3, 32, 32), []
    expected = model(images)
    features = model.text_features
    monkeypatch.setattr(model, "text_features", lambda p: calls.append(1) or features(p))
    with model.fixed_text():
        torch.testing.assert_close(model(images), expected)
        model(images)
    assert len(calls) == 1
    model(images)
    assert len(calls) == 2


def test_only_the_prompts_have_gradients(tiny_backbone):
    model = PromptedCLIP(tiny_backbone, learner_for(tiny_backbone), NAMES, "a photo of a {}.")
    F.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {"prompt_learner.text", "prompt_learner.vision"}


@pytest.mark.parametrize("precision", WEIGHT_DTYPES)
def test_every_precision_runs_and_is_near_fp32(tiny_clip, tmp_path, precision):
    torch.save(tiny_clip.state_dict(), tmp_path / "weights.pth")
    gradients = {}
    for kind in ("fp32", precision):
        backbone = load_backbone(str(tmp_path / "weights.pth"), kind)
        learner = learner_for(backbone)
        model = PromptedCLIP(backbone, learner, NAMES, "a photo of a {}.", TEMPLATES, True)
        images = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
        logits = model(images)
        F.cross_entropy(logits / 10, torch.tensor([0, 1])).backward()
        assert logits.dtype == learner.text.dtype == learner.text.grad.dtype == torch.float32
        gradients[kind] = learner.vision.grad.flatten()
    agreement = F.cosine_similarity(gradients["fp32"], gradients[precision], dim=0)
    assert agreement > 0.98


def test_drift_correction_needs_templates(tiny_backbone):
    with pytest.raises(ValueError, match="give templates"):
        PromptedCLIP(tiny_backbone, NoPrompts(), NAMES, "a photo of a {}.", (), True)


def test_resnet_takes_no_prompts(tiny_clip, tiny_backbone):
    from clip.model import CLIP

    resnet = CLIP(32, 32, (1, 1, 1, 1), 64, None, 77, 49408, 64, 1, 1).eval()
    backbone = Backbone(resnet, "RN", "", "fp32", torch.device("cpu"))
    with pytest.raises(ValueError, match="is a ResNet; prompts need"):
        PromptedCLIP(backbone, learner_for(tiny_backbone), NAMES, "a photo of a {}.")
    logits = PromptedCLIP(backbone, NoPrompts(), NAMES, "a {}.")(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 3)


@pytest.mark.parametrize(("depths", "tower"), [((5, 2), "text"), ((2, 5), "image")])
def test_prompts_are_not_deeper_than_their_tower(tiny_backbone, depths, tower):
    sizes = zip(depths, (128, 192), strict=True)
    learner = FullRankPrompts(*(torch.zeros(d, 4, w) for d, w in sizes))
    with pytest.raises(ArgumentError, match=f"for 5 layers of the {tower} tower, which has 4"):
        PromptedCLIP(tiny_backbone, learner, NAMES, "a photo of a {}.")


def context(tokens, classes=None):
    shape = (tokens, 128) if classes is None else (classes, tokens, 128)
    return Context(torch.randn(shape))


@pytest.mark.parametrize(
    ("prompt_learner", "arguments", "message"),
    [
        # The slots of four prompts are the first four tokens of each text.
        (context(4), (NAMES, "the {} on a photo"), "1 token before the class name, which the 4"),
        (context(4), (NAMES, "{} on a large photo"), "0 tokens before the class name"),
        (context(4), (NAMES, "a photo of {}, of a cat"), "3 tokens before the class name"),
        (context(1), (["side"], "car{}"), "runs into the class name"),
        (context(4), (NAMES, "a photo of a cat"), 'exactly one "{}"'),
        (context(4), ("cat", "a photo of a {}."), "give a list of texts"),
        (context(4), (["cat", "\x00"], "a photo of a {}."), "has no token"),
        (context(4), (NAMES, "a photo of a {}.", "a {}."), "give a list of texts"),
        # A context per class, of other classes; and names that are not where they would be moved.
        (context(4, 4), (NAMES, "a photo of a {}."), "(4, 4, 128), and there are 3 texts"),
        (context(4), (NAMES, "a photo of a good {}.", (), False, "front"), "right behind the 4"),
        (context(4), (NAMES, "a photo of a {}s.", (), False, "middle"), "right behind the 4"),
        (context(4), (NAMES, "a photo of a {}.", (), False, "behind"), "choose end, middle, front"),
        (NoPrompts(), (NAMES, "a photo of a {}.", (), False, "front"), "right behind the 0"),
    ],
)
def test_prompts_never_replace_the_class_name(tiny_backbone, prompt_learner, arguments, message):
    with pytest.raises(ArgumentError) as error:
        PromptedCLIP(tiny_backbone, prompt_learner, *arguments)
    assert message in str(error.value)


def test_layers_have_as_many_prompts(tiny_backbone):
    learner = NoPrompts()
    learner.forward = lambda: ((None, torch.ones(4, 128), torch.ones(5, 128)), ())
    with pytest.raises(ArgumentError, match="shape .5, 128., and there are 3 texts with 4 slots"):
        PromptedCLIP(tiny_backbone, learner, NAMES, "a photo of a {}.")
    learner.forward = lambda: ((None, torch.ones(4, 128)), ())  # TCP's, from layer 2 on
    logits = PromptedCLIP(tiny_backbone, learner, NAMES, "a photo of a {}.")(
        torch.ones(1, 3, 32, 32)
    )
    assert logits.shape == (1, 3)


def test_prompts_are_those_that_the_texts_have_slots_for(tiny_clip):
    """Others would be left out without a word: all of them, the last, or those of a class."""
    texts = ["X X a cat", "X X a dog house"]
    for tokenized, shape in (
        (tokenize(texts), (2, 128)),
        (tokenize(texts, 2), (3, 128)),
        (tokenize(texts, 2), (3, 2, 128)),
    ):
        with pytest.raises(ArgumentError, match="tokenise the texts for so many prompt tokens"):
            encode_text(tiny_clip, tokenized, [None, torch.ones(shape)])
    assert encode_text(tiny_clip, tokenize(texts, 2), torch.ones(3, 2, 128)).shape == (2, 32)


def test_the_template_s_words_before_the_name_may_be_more_than_the_prompts(tiny_backbone):
    """Two of four words are replaced; the classes stay apart."""
    model = PromptedCLIP(tiny_backbone, context(2), NAMES, "a photo of a {}.")
    assert model(torch.randn(1, 3, 32, 32)).std() > 0


def test_frozen_text_takes_a_list_of_templates(tiny_backbone):
    for templates in ("a photo of a {}.", ()):
        with pytest.raises(ArgumentError, match="templates is"):
            frozen_text_features(tiny_backbone, NAMES, templates)
    with pytest.raises(ArgumentError, match="texts is the text 'cat'"):
        encode_texts(tiny_backbone.model, "cat")
