"""Text out of files, safe to show: a name on a card can steer a terminal, or turn a line of text around."""

import unicodedata

_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (bidi among them), lone surrogates, separators of lines


def printable(text: str) -> str:
    """The text with every character that steers instead of showing written as its escape; line feeds and tabs stay."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def one_line(text: str) -> str:
    """As `printable`, with line feeds and tabs escaped too: for a name or a value within a line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _shown(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _STEERING:
        return character
    units = character.encode("utf-16-be", "surrogatepass")  # as JSON writes it, so that JSON stays JSON
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
