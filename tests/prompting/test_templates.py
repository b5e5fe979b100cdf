import json

import pytest

from prompting import ArgumentError, class_prompts
from prompting.templates import CUSTOM_TEMPLATES, IMAGENET_TEMPLATES


def test_class_prompts():
    assert class_prompts(["car_side", "a b"], "a {}.") == ["a car side.", "a a b."]


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "", None, ["{}"]])
def test_a_template_has_one_place(template):
    with pytest.raises(ArgumentError, match='exactly one "{}"') as error:
        class_prompts(["cat"], template)
    assert error.value.argument == "template"


@pytest.mark.parametrize("names", ["cat", b"cat", [""], [" "], ["cat", "_"], [None], [3]])
def test_class_names_are_a_list_of_texts(names):
    """One text is no list of its letters, and a class without a name has no text."""
    with pytest.raises(ArgumentError, match="give a list of texts|give each class a name"):
        class_prompts(names, "a {}.")


def test_templates_are_the_published_ones(shared_data):
    published = json.loads((shared_data / "templates.json").read_text())
    values = list(published.values())
    assert list(IMAGENET_TEMPLATES) in values
    assert CUSTOM_TEMPLATES in values
    assert len(set(IMAGENET_TEMPLATES)) == 60
