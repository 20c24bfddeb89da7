"""How a hospital stains and photographs a smear: Beer-Lambert's law, then a microscope and a camera.

A cell is drawn as amounts of three bound dyes. A Romanowsky stain has two, azure B and eosin Y, but
shows three colours: azure B bound together with eosin to chromatin is *purple*, azure B on RNA is
*blue*, eosin on haemoglobin and on basic proteins is *pink* (Horobin, Biotechnic & Histochemistry 86,
2011). Each dye absorbs red, green and blue light in proportion to its amount, so that the light which
passes is ``white * exp(-sum(amount * absorbance))``. A `SiteStyle` holds what differs from one
hospital to the next.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from hemafl_lib.errors import DataError

PURPLE, BLUE, PINK = range(3)
"""Order of the three dyes in every array of dye amounts."""

OVERSAMPLING = 2
"""Smears are drawn this many times finer than the image, and averaged down at the end."""

Colour = tuple[float, float, float]


_RANGES = {
    "purple": (0, 5),
    "blue": (0, 5),
    "pink": (0, 5),
    "white": (1, 255),
    "slide_spread": (0, 0.5),
    "strength": (0.1, 5),
    "alkalinity": (0, 1),
    "field": (5, 300),
    "off_centre": (0, 0.5),
    "red_cells": (0, 1),
    "blur": (0, 5),
    "sharpening": (0, 3),
    "noise": (0, 50),
    "jpeg": (1, 100),
}


@dataclass(frozen=True, kw_only=True)
class SiteStyle:
    """The stain, microscope and camera of one hospital.

    Parameters
    ----------
    purple, blue, pink
        Absorbance (natural logarithm, no unit) of one unit of each dye for red, green and blue light.
    white
        Colour of the empty background, 1 to 255: the lamp's tint after the camera's white balance.
    slide_spread
        Relative standard deviation of the background colour and of the stain from slide to slide.
    strength
        Factor on every dye: time in the stain.
    alkalinity
        Share of blue in red cells, 0 to 1: an alkaline buffer turns them from salmon to grey-blue.
    field
        Width of the image on the slide, in micrometres: magnification and crop together.
    off_centre
        Standard deviation of the cell's position, as a share of ``field``.
    red_cells
        About the share of the area around the cell that red cells cover, 0 to 1.
    blur
        Standard deviation of the point spread when in focus, in micrometres.
    sharpening
        Strength of the camera's unsharp mask, 0 to 3.
    noise
        Standard deviation of the camera's noise, in steps of the 8-bit scale.
    jpeg
        Quality of the JPEG file, 1 to 100.

    Raises
    ------
    DataError
        If a value is outside its range.
    """

    purple: Colour = (0.90, 1.50, 0.45)
    blue: Colour = (1.05, 0.80, 0.25)
    pink: Colour = (0.18, 0.85, 0.70)
    white: Colour = (250.0, 246.0, 244.0)
    slide_spread: float = 0.02
    strength: float = 1.0
    alkalinity: float = 0.3
    field: float = 30.0
    off_centre: float = 0.02
    red_cells: float = 0.4
    blur: float = 0.12
    sharpening: float = 0.5
    noise: float = 2.0
    jpeg: float = 90.0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = np.atleast_1d(getattr(self, name))
            if len(value) != np.size(getattr(SiteStyle, name)) or not np.all(
                (value >= low) & (value <= high)
            ):
                raise DataError(
                    f"SiteStyle: '{name}' is {getattr(self, name)}; give values from {low} to {high}."
                )


SITE_STYLES: dict[str, SiteStyle] = {
    "north": SiteStyle(
        white=(254, 231, 207),
        slide_spread=0.015,
        purple=(0.92, 1.48, 0.36),
        pink=(0.14, 0.70, 0.62),
        alkalinity=0.36,
        field=36,
        off_centre=0.01,
        red_cells=0.5,
        blur=0.10,
        sharpening=1.2,
        noise=1.5,
        jpeg=92,
    ),
    "south": SiteStyle(
        white=(238, 231, 236),
        slide_spread=0.025,
        purple=(0.90, 1.55, 0.34),
        pink=(0.10, 0.80, 0.50),
        alkalinity=0.2,
        field=27,
        red_cells=0.35,
        off_centre=0.04,
        blur=0.16,
        sharpening=0.8,
        noise=2.0,
        jpeg=90,
    ),
    "east": SiteStyle(
        white=(253, 248, 150),
        purple=(0.78, 1.75, 0.62),
        blue=(0.95, 0.60, 0.45),
        pink=(0.20, 0.70, 0.45),
        slide_spread=0.06,
        strength=0.9,
        alkalinity=0.25,
        field=20,
        off_centre=0.02,
        red_cells=0.06,
        blur=0.24,
        sharpening=0.3,
        noise=3.0,
        jpeg=85,
    ),
    "west": SiteStyle(
        white=(222, 222, 212),
        purple=(0.62, 0.98, 0.06),
        blue=(0.75, 0.55, 0.15),
        pink=(0.12, 0.60, 0.30),
        slide_spread=0.03,
        strength=0.85,
        alkalinity=0.08,
        field=18,
        off_centre=0.05,
        red_cells=0.30,
        blur=0.28,
        sharpening=0.0,
        noise=3.0,
        jpeg=70,
    ),
    "harbour": SiteStyle(
        white=(254, 238, 214),
        purple=(0.86, 1.45, 0.42),
        pink=(0.16, 0.78, 0.50),
        slide_spread=0.03,
        alkalinity=0.16,
        field=26,
        off_centre=0.03,
        red_cells=0.5,
        blur=0.12,
        sharpening=1.0,
        noise=1.5,
        jpeg=90,
    ),
    "valley": SiteStyle(
        white=(246, 250, 242),
        purple=(0.62, 1.05, 0.10),
        blue=(0.90, 0.60, 0.30),
        pink=(0.10, 0.75, 0.35),
        slide_spread=0.03,
        alkalinity=0.85,
        field=34,
        off_centre=0.05,
        red_cells=0.45,
        blur=0.20,
        sharpening=0.4,
        noise=2.5,
        jpeg=80,
    ),
}
"""Six invented hospitals whose smears can be told apart at a glance.

Their colours, crops and sharpness were set by eye to lie in the range of public collections: cream or neutral
backgrounds of slide scanners ("north", "south", "harbour"), a rapid stain under a yellow lamp ("east"), tight
and soft crops ("west"), an alkaline buffer ("valley").
"""


def between(start: SiteStyle, end: SiteStyle, amount: float) -> SiteStyle:
    """Return the style that lies ``amount`` of the way from ``start`` (0) to ``end`` (1).

    Every number moves along a straight line, so that a stain shift can be dialled.

    Raises
    ------
    DataError
        If ``amount`` is outside 0 to 1.
    """
    if not 0 <= amount <= 1:
        raise DataError(f"between: 'amount' is {amount}; give a number from 0 to 1.")

    def mix(name: str) -> Any:
        value = np.asarray(getattr(start, name)) * (1 - amount) + np.asarray(getattr(end, name)) * amount
        return tuple(value.tolist()) if value.ndim else float(value)

    return SiteStyle(**{field.name: mix(field.name) for field in fields(SiteStyle)})


def random_style(generator: np.random.Generator) -> SiteStyle:
    """Draw a plausible hospital that nobody has seen before."""
    draw = generator.uniform

    def dye(colour: Colour) -> Colour:
        return tuple((np.asarray(colour) * generator.lognormal(0, 0.15, 3)).tolist())

    lamp = draw(225, 255)
    return SiteStyle(
        purple=dye(SiteStyle.purple),
        blue=dye(SiteStyle.blue),
        pink=dye(SiteStyle.pink),
        white=(lamp, lamp * draw(0.90, 1.0), lamp * draw(0.75, 1.0)),
        slide_spread=draw(0.01, 0.05),
        strength=draw(0.8, 1.15),
        alkalinity=draw(0.05, 0.7),
        field=draw(18, 38),
        off_centre=draw(0.01, 0.05),
        red_cells=draw(0.1, 0.5),
        blur=draw(0.08, 0.30),
        sharpening=draw(0, 1.5),
        noise=draw(1, 4),
        jpeg=draw(70, 95),
    )


def photograph(
    dyes: np.ndarray,
    style: SiteStyle,
    white: np.ndarray,
    field: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the photograph of a stained field.

    Parameters
    ----------
    dyes
        float32[3, S, S]: amount of the purple, blue and pink dye at every point.
    style
        The hospital.
    white
        float[3]: background colour of this slide, 0 to 255.
    field
        Width of the image in micrometres.
    rng
        Source of focus, shading and noise.

    Returns
    -------
    np.ndarray
        uint8[S / OVERSAMPLING, S / OVERSAMPLING, 3].
    """
    absorbance = np.asarray((style.purple, style.blue, style.pink), np.float32)
    # Beer and Lambert: densities of dyes add up, and light falls exponentially with their sum.
    density = np.stack([sum(dyes[k] * absorbance[k, channel] for k in range(3)) for channel in range(3)])
    light = np.exp(-density)
    side = light.shape[1]
    # The lens blurs light, not dye, and before the camera's pixels average it.
    focus = style.blur * rng.lognormal(0, 0.35)
    light = gaussian_filter(light, focus * side / field, axes=(1, 2), truncate=3)
    light = sum(
        light[:, i::OVERSAMPLING, j::OVERSAMPLING] for i in range(OVERSAMPLING) for j in range(OVERSAMPLING)
    )
    light /= OVERSAMPLING**2
    # The camera's own sharpening, noise and compression come last, in the order of a real one.
    light += style.sharpening * (light - gaussian_filter(light, 1, axes=(1, 2), truncate=3))
    light *= (white[:, None, None] * _shading(light.shape[1], rng)).astype(np.float32)
    light += style.noise * rng.standard_normal(light.shape, np.float32)
    image = np.clip(light + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return _compress(np.ascontiguousarray(image), round(style.jpeg))


def _shading(side: int, rng: np.random.Generator) -> np.ndarray:
    """Return the lamp's unevenness, float[side, side] around 1: a slope of a few per cent."""
    slope = rng.normal(0, 0.008, 2)
    line = np.linspace(-1, 1, side)
    return 1 + slope[0] * line[:, None] + slope[1] * line


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image, uint8[H, W, 3], as it comes back from a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
