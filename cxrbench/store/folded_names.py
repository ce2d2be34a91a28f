"""Names that differ in letter case or in Unicode form only, as file systems and spreadsheets leave them."""

import unicodedata
from collections.abc import Iterable


def folded(name: str) -> str:
    """The form that such names share."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def near(wanted: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Wanted names that are there but for letter case or Unicode form, each with the name there is."""
    wanted = list(wanted)
    by_form = {folded(name): name for name in there} if wanted else {}
    return {name: by_form[folded(name)] for name in wanted if folded(name) in by_form}
