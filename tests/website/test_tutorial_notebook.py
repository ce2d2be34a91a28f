"""The notebook of the documentation shows what it shows when it is run."""

import pytest

pytest.importorskip("nbclient", reason="the extra `notebook` installs it")

from website.notebook import differences


@pytest.mark.slow
def test_the_notebook_shows_what_comes_out() -> None:
    assert not differences()
