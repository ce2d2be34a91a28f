"""What is said while something takes long."""

import io
import re
import time

import pytest

from cxrbench.system.progress import announced


class Shut(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_what_takes_long_is_announced_again_and_again_until_it_is_over() -> None:
    out = io.StringIO()
    with announced("listing \x1b[2J/data", out, after=0.01, every=0.01):
        end = time.monotonic() + 20
        while out.getvalue().count("\n") < 3 and time.monotonic() < end:
            time.sleep(0.005)
    said = out.getvalue()
    assert all(re.fullmatch(r"listing \\u001b\[2J/data, \d+ s so far", line) for line in said.splitlines()), said
    assert said.count("\n") >= 3
    time.sleep(0.05)
    assert out.getvalue() == said


def test_what_is_soon_over_is_not_announced() -> None:
    out = io.StringIO()
    with announced("listing", out, after=60):
        pass
    assert out.getvalue() == ""


@pytest.mark.parametrize("out", [None, Shut()], ids=["no stream", "a stream that nobody reads"])
def test_who_cannot_be_told_ends_no_work(out: io.StringIO | None, capfd: pytest.CaptureFixture[str]) -> None:
    with announced("listing", out, after=0.001, every=0.001):
        time.sleep(0.02)
    assert capfd.readouterr() == ("", "")


def test_an_error_within_passes_as_it_is() -> None:
    with pytest.raises(KeyError), announced("listing", io.StringIO()):
        raise KeyError
