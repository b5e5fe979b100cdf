import json

import pytest

from prompting import class_prompts
from prompting.templates import CUSTOM_TEMPLATES, IMAGENET_TEMPLATES


def test_class_prompts():
    assert class_prompts(["car_side", "a b"], "a {}.") == ["a car side.", "a a b."]


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_has_one_place(template):
    with pytest.raises(ValueError, match='exactly one "{}"'):
        class_prompts(["cat"], template)


def test_templates_are_the_published_ones(shared_data):
    published = json.loads((shared_data / "templates.json").read_text())
    values = list(published.values())
    assert list(IMAGENET_TEMPLATES) in values
    assert CUSTOM_TEMPLATES in values
    assert len(set(IMAGENET_TEMPLATES)) == 60
