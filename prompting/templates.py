"""Sentence templates, and class names put into them.

The templates are facts of the published protocol, under CoOp's names: `IMAGENET_TEMPLATES` are the
60 of CLIP's 80 ImageNet templates that PromptSRC averages for its frozen text features,
`IMAGENET_TEMPLATES_SELECT` the seven that OpenAI's notebook found best together, `CUSTOM_TEMPLATES`
the one hand-written template per data set that CoOp uses for zero-shot CLIP. `KGCOOP_TEMPLATES`,
`PROGRAD_TEMPLATES` and `TCP_TEMPLATES` say where these methods' code bases have others.
"""

from collections.abc import Mapping, Sequence

from prompting.errors import ArgumentError, check_list

IMAGENET_TEMPLATES = (
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
)

IMAGENET_TEMPLATES_SELECT = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

CUSTOM_TEMPLATES = {
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "StanfordCars": "a photo of a {}.",
    "Food101": "a photo of {}, a type of food.",
    "SUN397": "a photo of a {}.",
    "Caltech101": "a photo of a {}.",
    "UCF101": "a photo of a person doing {}.",
    "ImageNet": "a photo of a {}.",
    "ImageNetSketch": "a photo of a {}.",
    "ImageNetV2": "a photo of a {}.",
    "ImageNetA": "a photo of a {}.",
    "ImageNetR": "a photo of a {}.",
}
DEFAULT_TEMPLATE = "a photo of a {}."

KGCOOP_TEMPLATES = {"DescribableTextures": "a photo of a {}, a type of texture."}
PROGRAD_TEMPLATES = {
    "OxfordPets": "a type of pet, a photo of a {}.",
    "OxfordFlowers": "a type of flower, a photo of a {}.",
    "FGVCAircraft": "a type of aircraft, a photo of a {}.",
    "DescribableTextures": "a texture of {}.",
    "Food101": "a type of food, a photo of {}.",
}
TCP_TEMPLATES = {
    "FGVCAircraft": "a photo of an aircraft {}.",
    "DescribableTextures": "a photo of a {}, a type of texture.",
    "Food101": "a photo of a {}, a type of food.",
}
# What follows the trained words in TCP's texts, where it is not "{}.".
TCP_ENDINGS = {
    "OxfordPets": "{}, a type of pet.",
    "OxfordFlowers": "{}, a type of flower.",
    "FGVCAircraft": "{}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "StanfordCars": "{}, a type of car",
    "Food101": "{}, a type of food.",
    "UCF101": "person doing {}.",
}


def template_for(dataset: str, own: Mapping[str, str]) -> str:
    """Return a method's own template for a data set, or else the one of zero-shot CLIP."""
    return {**CUSTOM_TEMPLATES, **own}.get(dataset, DEFAULT_TEMPLATE)


def zero_shot_templates(dataset: str) -> tuple[str, ...]:
    """Return the templates of methods on frozen features: for ImageNet seven, else the one."""
    imagenet = dataset.startswith("ImageNet")
    return IMAGENET_TEMPLATES_SELECT if imagenet else (template_for(dataset, {}),)


def class_prompts(classnames: Sequence[str], template: str) -> list[str]:
    """Put each class name into a template such as "a photo of a {}.".

    Underscores in a name are read as spaces, as everywhere in the family.

    Raises:
        ArgumentError: the template does not hold exactly one "{}", the class names are one text, or
            one of them is empty.
    """
    check_list("classnames", classnames)
    for name in classnames:
        if not isinstance(name, str) or not name.replace("_", " ").strip():
            raise ArgumentError("classnames", f"holds {name!r}: give each class a name.")
    if not isinstance(template, str) or template.count("{}") != 1:
        raise ArgumentError(
            "template",
            f'is {template!r}: it needs exactly one "{{}}" for the class name, as in '
            f'"{DEFAULT_TEMPLATE}".',
        )
    return [template.replace("{}", name.replace("_", " ")) for name in classnames]
