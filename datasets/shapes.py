"""Render the demo world: one coloured, textured shape per image, drawn from a seed.

An image is described by a `Scene` (what the words name) and drawn in a `Style` (how hard it is to
recognise). All randomness comes from the generator passed in, so a seed fixes every pixel.
"""

import colorsys
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

SIZE = 64  # pixels, both sides

# Hue, saturation, value of each named colour.
COLOURS = {
    "red": (0.00, 0.90, 0.85),
    "orange": (0.08, 0.95, 0.95),
    "yellow": (0.15, 0.85, 0.95),
    "green": (0.33, 0.75, 0.65),
    "cyan": (0.50, 0.70, 0.85),
    "blue": (0.62, 0.85, 0.80),
    "purple": (0.76, 0.70, 0.65),
    "pink": (0.92, 0.45, 0.95),
    "brown": (0.07, 0.75, 0.45),
    "white": (0.00, 0.00, 0.95),
}


@dataclass(frozen=True)
class Scene:
    """Hold what a caption can name in an image: words from SHAPES, COLOURS and TEXTURES.

    `drift` is what no caption names: the offset of the shape's hue from that of its colour word.
    """

    shape: str
    colour: str
    texture: str
    background: str
    drift: float = 0.0

    @property
    def name(self) -> str:
        """Return the class name, which leaves the texture out."""
        return f"{self.colour} {self.shape} on a {self.background} background"


@dataclass(frozen=True)
class Style:
    """Define how a scene is drawn; lengths are in units of half the image, angles in radians."""

    radius: tuple[float, float] = (0.45, 0.75)
    offset: float = 0.15
    rotation: float = 0.30
    hue: float = 0.010  # standard deviation of the hue of the shape
    value: float = 0.06  # standard deviation of its saturation and brightness
    contrast: tuple[float, float] = (0.50, 0.75)  # strength of the texture
    clutter: int = 1  # largest number of small shapes scattered over the background
    occlusion: float = 0.0  # chance that a bar of background hides part of the shape
    noise: float = 0.02  # standard deviation of the pixel noise, on a scale from 0 to 1
    blur: float = 0.0  # chance of a 3 x 3 blur
    outline: bool = False  # strokes on paper instead of filled shapes
    levels: int = 0  # posterise to this many levels per channel; 0: do not


def _arrow(u, v):
    head = np.maximum(np.abs(u) * 0.75 + (v - 1) * 0.6, -v + 0.0)
    shaft = np.maximum(np.abs(u) - 0.25, np.abs(v + 0.45) - 0.55)
    return np.minimum(head, shaft)


def _crescent(u, v):
    return np.maximum(np.hypot(u, v) - 1, 0.85 - np.hypot(u - 0.5, v))


def _cross(u, v):
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(a - 0.3, b - 0.95), np.maximum(a - 0.95, b - 0.3))


def _fish(u, v):
    body = np.hypot((u - 0.2) / 1.5, v) - 0.5
    tail = np.maximum(np.abs(v) + (u + 0.35) * 0.9, -u - 1.0)
    return np.minimum(body, tail)


def _heart(u, v):
    a = np.abs(u)
    lobes = np.hypot(a - 0.45, v - 0.3) - 0.52
    point = np.maximum((a - v) * 0.707 - 0.62, v - 0.35)
    return np.minimum(lobes, point)


def _house(u, v):
    walls = np.maximum(np.abs(u) - 0.6, np.abs(v + 0.4) - 0.5)
    roof = np.maximum(np.abs(u) * 0.65 + (v - 0.9) * 0.75, -v + 0.1)
    return np.minimum(walls, roof)


def _leaf(u, v):
    return np.maximum(np.hypot(u - 0.75, v), np.hypot(u + 0.75, v)) - 1.25


def _star(u, v):
    sector = np.abs((np.arctan2(u, v) / (2 * np.pi) * 5 + 0.5) % 1 - 0.5) * 2  # 0 tip, 1 notch
    return np.hypot(u, v) - (1.0 - 0.58 * sector)


def _triangle(u, v):
    return np.maximum(np.abs(u) * 0.866 + v * 0.5, -v) - 0.55


# Each function takes coordinates (right, up) of any shape, the shape filling about the unit circle,
# and returns an approximate signed distance: negative inside.
SHAPES = {
    "arrow": _arrow,
    "circle": lambda u, v: np.hypot(u, v) - 0.85,
    "crescent": _crescent,
    "cross": _cross,
    "diamond": lambda u, v: (np.abs(u) * 1.3 + np.abs(v)) * 0.65 - 0.62,
    "fish": _fish,
    "heart": _heart,
    "house": _house,
    "leaf": _leaf,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.7) - 0.24,
    "star": _star,
    "triangle": _triangle,
}

# Each returns, for coordinates in the shape's frame and a phase in [0, 1), how much of the second
# shade is mixed in: 0 none, 1 all.
TEXTURES = {
    "plain": lambda u, v, p: np.zeros_like(u),
    "striped": lambda u, v, p: ((u * 2.2 + p) % 1 < 0.5) * 1.0,
    "dotted": lambda u, v, p: (
        (np.hypot((u * 2.2 + p) % 1 - 0.5, (v * 2.2 + p) % 1 - 0.5) < 0.3) * 1.0
    ),
    "checkered": lambda u, v, p: (((u * 1.6 + p) % 1 < 0.5) ^ ((v * 1.6 + p) % 1 < 0.5)) * 1.0,
    "ringed": lambda u, v, p: ((np.hypot(u, v) * 2.5 + p) % 1 < 0.5) * 1.0,
    "faded": lambda u, v, p: np.clip(v * 0.7 + 0.5, 0, 1),
}

CLEAN = Style()
NATURAL = Style(
    radius=(0.40, 0.72),
    offset=0.22,
    rotation=0.45,
    hue=0.025,
    value=0.10,
    contrast=(0.35, 0.65),
    clutter=5,
    occlusion=0.3,
    noise=0.05,
    blur=0.3,
)
# The counterparts of ImageNet-V2, -Sketch, -A and -R.
VARIANTS = {
    "ShapeWorldV2": replace(NATURAL, radius=(0.36, 0.64), offset=0.28, hue=0.030),
    "ShapeWorldSketch": replace(NATURAL, outline=True, clutter=0, blur=0.0),
    "ShapeWorldA": replace(
        NATURAL, radius=(0.34, 0.55), offset=0.35, clutter=9, occlusion=0.8, rotation=0.8
    ),
    "ShapeWorldR": replace(NATURAL, levels=3, noise=0.07, contrast=(0.7, 0.9)),
}

_AXIS = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
_X, _Y = np.meshgrid(_AXIS, -_AXIS)


def render(scene: Scene, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene as an array (64, 64, 3) of uint8."""
    paper = _tint(COLOURS[scene.background], 0.03, 0.10, rng)
    if style.outline:
        paper = 0.75 + 0.25 * paper
    image = np.broadcast_to(paper, (SIZE, SIZE, 3)) + _ramp(rng)
    for _ in range(rng.integers(style.clutter + 1)):
        image = _scatter(image, rng)
    image = _draw(image, scene, style, rng)
    if rng.random() < style.occlusion:
        image = _occlude(image, paper, rng)
    return _finish(image, style, rng)


def _tint(hsv, hue: float, value: float, rng: np.random.Generator) -> np.ndarray:
    """Return a colour near `hsv` as red, green, blue in [0, 1]; white stays without hue."""
    h, s, v = np.array(hsv) + rng.normal(size=3) * (hue, value, value)
    if hsv[1] == 0:
        s = 0.0
    return np.array(colorsys.hsv_to_rgb(h % 1, np.clip(s, 0, 1), np.clip(v, 0.15, 1)))


def _ramp(rng: np.random.Generator) -> np.ndarray:
    """Return a slow change of brightness over the image: (64, 64, 1)."""
    a, b = rng.normal(size=2) * 0.05
    return (a * _X + b * _Y)[..., None]


def _frame(centre, angle: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return image coordinates in the frame of an object: two arrays (64, 64)."""
    x, y = (_X - centre[0]) / radius, (_Y - centre[1]) / radius
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, c * y - s * x


def _cover(image: np.ndarray, distance: np.ndarray, radius: float, paint) -> np.ndarray:
    """Paint where the distance is negative; the edge is smoothed over about one pixel."""
    alpha = np.clip(0.5 - distance * radius * SIZE / 2, 0, 1)[..., None]
    return image * (1 - alpha) + paint * alpha


def _scatter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shape = SHAPES[rng.choice(list(SHAPES))]
    radius = rng.uniform(0.08, 0.18)
    u, v = _frame(rng.uniform(-1, 1, 2), rng.uniform(0, 2 * np.pi), radius)
    paint = _tint(COLOURS[rng.choice(list(COLOURS))], 0.03, 0.1, rng)
    return _cover(image, shape(u, v), radius, 0.6 * paint + 0.4 * image)


def _draw(image, scene: Scene, style: Style, rng: np.random.Generator) -> np.ndarray:
    radius = rng.uniform(*style.radius)
    centre = rng.uniform(-style.offset, style.offset, 2)
    u, v = _frame(centre, rng.normal() * style.rotation, radius)
    hue, saturation, brightness = COLOURS[scene.colour]
    named = (hue + scene.drift, saturation, brightness)
    first = _tint(named, style.hue, style.value, rng)
    second = first * 0.25 if rng.random() < 0.5 else 0.1 + 0.9 * np.ones(3)
    if scene.colour == "white":
        second = np.full(3, 0.25)
    mix = TEXTURES[scene.texture](u, v, rng.random())[..., None] * rng.uniform(*style.contrast)
    paint = first * (1 - mix) + second * mix
    distance = SHAPES[scene.shape](u, v)
    if not style.outline:
        return _cover(image, distance, radius, paint)
    image = _cover(image, distance, radius, 0.55 * image + 0.45 * paint)
    return _cover(image, np.abs(distance) - 0.07, radius, first * 0.8)


def _occlude(image: np.ndarray, paper: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, _ = _frame(rng.uniform(-0.5, 0.5, 2), rng.uniform(0, np.pi), 1.0)
    return _cover(image, np.abs(u) - rng.uniform(0.05, 0.12), 1.0, paper * 0.8)


def _finish(image: np.ndarray, style: Style, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < style.blur:
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        image = sum(padded[i : i + SIZE, j : j + SIZE] for i, j in product(range(3), range(3))) / 9
    image = image + rng.normal(size=image.shape) * style.noise
    if style.levels:
        image = np.round(np.clip(image, 0, 1) * (style.levels - 1)) / (style.levels - 1)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
