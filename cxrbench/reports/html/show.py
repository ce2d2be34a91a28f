"""How values look on the page; numbers are rounded here and nowhere before."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cxrbench.evaluate.metric_table import NumberFormat
from cxrbench.evaluate.statistics.interval import Interval, covering
from cxrbench.records.selection import Setting
from cxrbench.reports.comparisons import PERCENT, number_text
from cxrbench.types import shots_in_words

DASH = "–"
HEAT = 10  # steps of the heat map's scale
SHORT = 12  # characters of a digest; the identities have it whole
STRIP = 120  # width of a strip of dots


def percent(value: float | None, decimals: int = 2) -> str:
    """A share as percent without its sign, or a dash."""
    return DASH if value is None else f"{100 * value:.{decimals}f}"


def plain(value: float | None) -> str:
    """A number to three decimals, or a dash."""
    return DASH if value is None else f"{value:.3f}"


def signed(value: float | None, decimals: int = 2) -> str:
    """A difference in points with its sign, or a dash."""
    return DASH if value is None else f"{100 * value:+.{decimals}f}"


def ends(interval: Interval, shown: NumberFormat = PERCENT) -> str:
    """The ends of an interval, in percent unless shown otherwise; empty where there is none."""
    if interval.low is None or interval.high is None:
        return ""
    return f"{number(interval.low, shown)} to {number(interval.high, shown)}"


def number(value: float | None, shown: NumberFormat) -> str:
    """A value as its metric is shown, or a dash."""
    return DASH if value is None else number_text(value, shown)


def about(interval: Interval) -> str:
    """What an interval speaks of, and what to beware of in it."""
    return spoken([("", interval)])


def spoken(intervals: Iterable[tuple[str, Interval]]) -> str:
    """What named intervals speak of and what to beware of, by their names where these differ; none says nothing."""
    told = [(name, interval) for name, interval in intervals if interval.low is not None]
    every, reasons = dict.fromkeys(name for name, _ in told), dict[str, dict[str, None]]()
    for name, interval in told:
        if interval.reason:
            reasons.setdefault(interval.reason, {})[name] = None
    warned = (why if names == every else f"{why} ({', '.join(names)})" for why, names in reasons.items())
    return "; ".join(filter(None, [covering(told), *warned]))


def place(found: tuple[int, int]) -> str:
    """From which to which place, one number where these are the same."""
    low, high = found
    return str(low) if low == high else f"{low}–{high}"


def p_value(value: float | None) -> str:
    """A p value to three decimals, or a dash."""
    if value is None:
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def moment(value: str) -> str:
    """A point in time to the minute, of one in ISO 8601; any other text as it is."""
    try:
        return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return value


def short(value: str) -> str:
    """The beginning of a digest."""
    return value[:SHORT]


def protocol_title(protocol: str) -> str:
    """A protocol as a heading begins with it."""
    return "Zero-shot" if protocol == "zero-shot" else protocol.replace("-", " ").capitalize()


def words(setting: Setting) -> str:
    """A setting as a heading."""
    how = protocol_title(setting.protocol)
    if setting.shots is not None:
        how = f"{how}, {shots_in_words(setting.shots)}"
    asked = f", prompts {setting.prompts}" if setting.prompts else ""
    kind = "" if setting.kind == "single-label" else f", {setting.kind} tasks"
    return f"{how}{asked}, {classes(setting.group)}{kind}"


def heading(text: str) -> str:
    """A text with its first letter as a sentence has it; the others stay."""
    return text[:1].upper() + text[1:]


def classes(name: str) -> str:
    """A label group in words."""
    return f"{name} classes" if name in ("all", "base", "new") else f"group {name}"


def heat(value: float | None) -> str:
    """The class of a heat map's field: its tenth."""
    return "hx" if value is None else f"h{min(HEAT - 1, int(value * HEAT))}"


def placed(interval: Interval, scale: tuple[int, int]) -> str:
    """The classes that place an interval's line between two percents: its beginning and its length, in hundredths."""
    assert interval.low is not None and interval.high is not None  # the template's choice
    low, high = (round(100 * (100 * end - scale[0]) / (scale[1] - scale[0])) for end in (interval.low, interval.high))
    return f"f{min(low, 99)} l{max(1, high - low)}"


def lines() -> str:
    """The style of the classes of `placed`; attributes for style would need a weaker policy."""
    places = (f".f{n}{{margin-left:{n}%}}" for n in range(1, 100))
    return "".join([*places, *(f".l{n}{{width:{n}%}}" for n in range(1, 101))])


def strip(values: Sequence[float | None]) -> str:
    """Single prompts as an SVG path of dots, 0 to 100 % over the width of the strip."""
    return "".join(f"M{round(value * STRIP, 1):g} 6h0" for value in sorted({v for v in values if v is not None}))


def settled(settings: Mapping[str, Any]) -> str:
    """All settings of a variant in one line."""
    return ", ".join(f"{name} = {choice}" for name, choice in sorted(settings.items()))


FILTERS = {
    f.__name__: f
    for f in (
        percent,
        protocol_title,
        shots_in_words,
        plain,
        signed,
        number,
        ends,
        about,
        spoken,
        place,
        p_value,
        moment,
        short,
        words,
        classes,
        placed,
        heat,
        heading,
        strip,
        settled,
    )
}
