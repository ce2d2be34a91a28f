"""Runs the notebook of the documentation in an empty folder, and holds what it shows against what it stores.

`python -m website.notebook` tells the differences, with `--update` it writes the real outputs into the notebook.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "tutorial.ipynb"


def executed(path: Path) -> Any:
    """The notebook with the outputs of a run now, in a folder that is gone afterwards."""
    import nbformat
    from nbclient import NotebookClient

    found = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as place:
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        os.environ.update(CXRBENCH_CACHE=f"{place}/cache", PATH=programs)
        NotebookClient(found, timeout=300, resources={"metadata": {"path": place}}).execute()
    for cell in found.cells:
        cell.metadata.pop("execution", None)  # when it ran
    return found


def texts(notebook: Any) -> Iterator[tuple[str, str]]:
    """The source of each cell of code with the plain text that it shows; pictures are no text."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown = (one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.outputs)
            yield cell.source, "".join(shown)


def differences(path: Path = NOTEBOOK) -> list[str]:
    """The cells that show another text than they store, each with both."""
    import nbformat

    stored, came = texts(nbformat.read(path, as_version=4)), texts(executed(path))
    return [
        f"{source}\n--- stored\n{one}\n--- came\n{other}"
        for (source, one), (_, other) in zip(stored, came, strict=True)
        if one != other
    ]


def main(words: Sequence[str]) -> int:
    """Tell the differences, or store the outputs."""
    import nbformat

    if "--update" in words:
        nbformat.write(executed(NOTEBOOK), NOTEBOOK)
        return 0
    told = differences()
    print("\n".join(told))
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
