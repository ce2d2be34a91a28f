"""The page's colours: what is read reaches WCAG's AA in light and dark, what is drawn 3 to 1."""

import re
from importlib import resources

import pytest

CSS = resources.files("cxrbench.reports.html").joinpath("templates", "report.css").read_text(encoding="utf-8")
TEXTS = ("fg", "dim", "link", "mark", "good", "bad")
GRAPHICS = ("s0", "s1", "s2", "s3", "s4", "s5", "dim")
CONFUSION = 0.5  # opacity of the darkest field


def variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): ([^;]+);", block))


LIGHT, DARK, CHOSEN = (variables(block) for block in re.findall(r":root[^{]*\{(.*?)\}", CSS, re.DOTALL)[:3])
THEMES = {"light": LIGHT, "dark": LIGHT | DARK}


def channels(colour: str) -> tuple[float, ...]:
    digits = colour.removeprefix("#")
    digits = "".join(letter * 2 for letter in digits) if len(digits) == 3 else digits
    return tuple(int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))


def luminance(rgb: tuple[float, ...]) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """WCAG 2's contrast ratio, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_known_colours() -> None:
    assert contrast(channels("#fff"), channels("#000")) == pytest.approx(21)
    assert contrast(channels("#777777"), channels("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["bg", "soft", "made"])
@pytest.mark.parametrize("name", TEXTS)
def test_text_is_legible(name: str, ground: str, theme: str) -> None:
    own = THEMES[theme]
    assert contrast(channels(own[name]), channels(own[ground])) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", GRAPHICS)
def test_curves_and_borders_of_fields_are_seen(name: str, theme: str) -> None:
    own = THEMES[theme]
    assert contrast(channels(own[name]), channels(own["bg"])) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_counts_are_legible_on_the_darkest_field_of_a_confusion_matrix(theme: str) -> None:
    own = THEMES[theme]
    shade = [int(value) / 255 for value in own["q"].split(",")]
    mixed = tuple(CONFUSION * a + (1 - CONFUSION) * b for a, b in zip(shade, channels(own["bg"]), strict=True))
    assert f".q5 {{ background: rgba(var(--q), {CONFUSION:g}".replace("0.5", ".5") in CSS
    assert contrast(channels(own["fg"]), mixed) >= 4.5


def test_numbers_are_legible_on_every_step_of_the_heat_map() -> None:
    fields = dict(re.findall(r"\.(h\d) \{ background: (#\w+);", CSS))
    colours = {
        name: colour
        for names, colour in re.findall(r"((?:\.h\d,? ?)+)\{ color: (#\w+);", CSS)
        for name in names.replace(".", "").replace(",", "").split()
    }
    assert len(fields) == len(colours) == 10
    assert all(contrast(channels(fields[name]), channels(colours[name])) >= 4.5 for name in fields)


def test_dark_is_the_same_by_system_and_by_button() -> None:
    assert DARK == CHOSEN
