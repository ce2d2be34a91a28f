"""Names that a shell completes (`cxrbench --install-completion`)."""


def models(incomplete: str) -> list[str]:
    """Built-in and installed models that begin so."""
    from cxrbench.specs import catalog

    return _beginning(["all", *catalog.card_files()], incomplete)


def tasks(incomplete: str) -> list[str]:
    """Built-in and installed tasks that begin so."""
    from cxrbench.specs import catalog

    return _beginning(["all", *catalog.task_files()], incomplete)


def variants(incomplete: str) -> list[str]:
    """Bundles of settings that begin so."""
    from cxrbench.specs import catalog

    return _beginning(list(catalog.variant_files()), incomplete)


def _beginning(names: list[str], incomplete: str) -> list[str]:
    """The names for the last word of a comma list, each with what stands before it."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]
