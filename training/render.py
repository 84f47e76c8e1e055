"""Glyphs, icons and drawn shapes as small arrays: 48x48, uint8."""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 48  # rendered larger than the 32 px the model sees, so that augmentation can zoom and rotate
INK = 38  # the larger side of a glyph's bounding box

COLOURS = {
    "red": (214, 39, 40),
    "green": (34, 150, 60),
    "blue": (31, 90, 200),
    "yellow": (245, 205, 30),
    "orange": (245, 130, 25),
    "purple": (130, 60, 170),
    "pink": (240, 120, 180),
    "brown": (125, 75, 35),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
    "grey": (128, 128, 128),
    "cyan": (40, 190, 210),
}
CONTRAST = 200  # of two colours that are told apart; see _contrast
SHAPES = ["circle", "square", "triangle", "star", "cross", "ring", "diamond", "arrow"]
CORNERS = {
    "cross": [
        (-0.33, -1), (0.33, -1), (0.33, -0.33), (1, -0.33), (1, 0.33), (0.33, 0.33),
        (0.33, 1), (-0.33, 1), (-0.33, 0.33), (-1, 0.33), (-1, -0.33), (-0.33, -0.33),
    ],
    "arrow": [
        (0, -1), (0.8, -0.1), (0.3, -0.1), (0.3, 1), (-0.3, 1), (-0.3, -0.1), (-0.8, -0.1),
    ],
}  # fmt: skip


def glyph(font: ImageFont.FreeTypeFont, text: str) -> np.ndarray | None:
    """Ink of ``text`` fitted into the centre of a SIDE x SIDE uint8 mask; None without ink."""
    left, top, right, bottom = font.getbbox(text)
    width, height = right - left, bottom - top
    if width < 2 or height < 2 or width > 600 or height > 600:
        return None
    canvas = Image.new("L", (width, height))
    ImageDraw.Draw(canvas).text((-left, -top), text, font=font, fill=255)
    box = canvas.getbbox()
    if box is None:
        return None
    canvas = canvas.crop(box)
    # Punctuation would fill the frame like a letter does: it may grow only to twice its size.
    scale = min(INK / max(canvas.size), 2.0 * INK / font.size)
    size = [max(1, round(scale * s)) for s in canvas.size]
    out = Image.new("L", (SIDE, SIDE))
    out.paste(
        canvas.resize(size, Image.Resampling.LANCZOS),
        ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2),
    )
    return np.asarray(out)


def icon(body: str, left: float, top: float, width: float, height: float) -> np.ndarray | None:
    """Alpha channel of an SVG body on a SIDE x SIDE canvas with a margin; None if blank."""
    import resvg_py

    margin = 0.09 * max(width, height)
    box = f"{left - margin} {top - margin} {width + 2 * margin} {height + 2 * margin}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{SIDE}" height="{SIDE}">'
        f"{body}</svg>"
    )
    png = resvg_py.svg_to_bytes(svg_string=svg.replace("currentColor", "#000"))
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA").resize((SIDE, SIDE))
    alpha = np.asarray(image)[..., 3]
    return alpha if alpha.max() > 64 and (alpha > 64).mean() > 0.01 else None


def emoji(path: Path) -> np.ndarray:
    """RGBA of one emoji image, SIDE x SIDE."""
    return np.asarray(
        Image.open(path).convert("RGBA").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    )


def _polygon(
    shape: str, cx: float, cy: float, radius: float, turn: float
) -> list[tuple[float, float]]:
    def at(angle: float, r: float) -> tuple[float, float]:
        return cx + r * math.sin(angle + turn), cy - r * math.cos(angle + turn)

    if shape == "triangle":
        return [at(2 * math.pi * k / 3, radius) for k in range(3)]
    if shape == "square":
        return [at(math.pi / 4 + math.pi * k / 2, radius) for k in range(4)]
    if shape == "star":
        return [at(math.pi * k / 5, radius if k % 2 == 0 else 0.42 * radius) for k in range(10)]
    if shape == "diamond":
        return [
            at(0, radius),
            at(math.pi / 2, 0.6 * radius),
            at(math.pi, radius),
            at(-math.pi / 2, 0.6 * radius),
        ]
    c, s = math.cos(turn), math.sin(turn)
    corners = CORNERS[shape]
    return [(cx + radius * (c * x - s * y), cy + radius * (s * x + c * y)) for x, y in corners]


def _draw(
    draw: ImageDraw.ImageDraw, shape: str, cx: float, cy: float, radius: float, turn: float, colour
) -> None:
    disc = [cx - radius, cy - radius, cx + radius, cy + radius]
    if shape == "circle":
        draw.ellipse(disc, fill=colour)
    elif shape == "ring":
        draw.ellipse(disc, outline=colour, width=max(2, round(0.32 * radius)))
    else:
        draw.polygon(_polygon(shape, cx, cy, radius, turn), fill=colour)


def _contrast(one: str, other: str) -> int:
    """Sum over red, green and blue of how far two colours lie apart, 0 to 765."""
    return sum(abs(a - b) for a, b in zip(COLOURS[one], COLOURS[other], strict=True))


def _two_colours(rng: np.random.Generator) -> tuple[str, str]:
    names = list(COLOURS)
    while True:
        front, back = rng.choice(names, 2, replace=False)
        if _contrast(front, back) > CONTRAST:
            return str(front), str(back)


def _places(
    count: int, low: float, high: float, rng: np.random.Generator
) -> list[tuple[float, float, float]]:
    """Centres and radii of ``count`` discs that do not touch.

    Starts afresh where the first ones fill the frame.
    """
    while True:
        placed: list[tuple[float, float, float]] = []
        for _ in range(60):
            radius = rng.uniform(low, high)
            cx, cy = rng.uniform(radius + 3, SIDE - radius - 3, 2)
            if all(math.hypot(cx - x, cy - y) > radius + r + 2.0 for x, y, r in placed):
                placed.append((cx, cy, radius))
            if len(placed) == count:
                return placed


def scene(shape: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, str, str]:
    """``count`` copies of ``shape`` that do not touch; (SIDE, SIDE, 3) and the two colour names."""
    front, back = _two_colours(rng)
    zoom = 4
    image = Image.new("RGB", (zoom * SIDE, zoom * SIDE), COLOURS[back])
    draw = ImageDraw.Draw(image)
    low, high = (10.0, 19.0) if count == 1 else (4.2, 7.2)
    for cx, cy, radius in _places(count, low, high, rng):
        # An arrow or a star may lie at any angle; squares and diamonds lean a little, or they swap.
        most = math.pi if shape in ("arrow", "star", "triangle") else 0.2
        turn = rng.uniform(-most, most)
        _draw(draw, shape, zoom * cx, zoom * cy, zoom * radius, turn, COLOURS[front])
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)), front, back


def mixed(count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` small shapes of any kinds and colours that do not touch; (SIDE, SIDE, 3)."""
    back = str(rng.choice(list(COLOURS)))
    zoom = 4
    image = Image.new("RGB", (zoom * SIDE, zoom * SIDE), COLOURS[back])
    draw = ImageDraw.Draw(image)
    apart = [c for c in COLOURS if _contrast(c, back) > CONTRAST]
    for cx, cy, radius in _places(count, 4.6, 7.4, rng):
        shape, colour = str(rng.choice(SHAPES)), COLOURS[str(rng.choice(apart))]
        turn = rng.uniform(-math.pi, math.pi)
        _draw(draw, shape, zoom * cx, zoom * cy, zoom * radius, turn, colour)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


TEXTURES = [
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "checkerboard",
    "dots",
    "grid",
    "noise",
    "gradient",
]


def texture(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, str, str]:
    """A two-coloured pattern filling the frame; (SIDE, SIDE, 3) and the two colour names."""
    front, back = _two_colours(rng)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    period, shift = rng.uniform(7, 14), rng.uniform(0, 14, 2)
    u, v = (x + shift[0]) / period % 1, (y + shift[1]) / period % 1
    mix = {
        "horizontal stripes": lambda: v < 0.5,
        "vertical stripes": lambda: u < 0.5,
        "diagonal stripes": lambda: (
            ((x + rng.choice([-1, 1]) * y) / period / 1.4 + shift[0]) % 1 < 0.5
        ),
        "checkerboard": lambda: (u < 0.5) ^ (v < 0.5),
        "dots": lambda: np.hypot(u - 0.5, v - 0.5) < 0.3,
        "grid": lambda: (u < 0.22) | (v < 0.22),
        "noise": lambda: np.kron(rng.random((SIDE // 3, SIDE // 3)) < 0.5, np.ones((3, 3))),
        "gradient": lambda: (x * math.cos(shift[0]) + y * math.sin(shift[0])) / SIDE % 1,
    }[kind]()
    mix = np.asarray(mix, float)[..., None]
    image = mix * np.array(COLOURS[front]) + (1 - mix) * np.array(COLOURS[back])
    return image.astype(np.uint8), front, back
