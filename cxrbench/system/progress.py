"""Progress of a sweep or of a download: a bar on a terminal, plain lines elsewhere."""

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from threading import Event, Thread
from typing import Any, Protocol, TextIO

from cxrbench.system.printable import one_line


class Progress(Protocol):
    """Told how many images there are, and of each that is done."""

    def start(self, total: int, what: str) -> None:
        """A sweep over `total` image files begins."""

    def advance(self) -> None:
        """One more image file is decoded and waits for, or has been through, the models."""

    def stop(self) -> None:
        """The sweep is over."""


class Quiet:
    """Says nothing."""

    def start(self, total: int, what: str) -> None:
        """See `Progress`."""

    def advance(self) -> None:
        """See `Progress`."""

    def stop(self) -> None:
        """See `Progress`."""


class Lines:
    """One line every `every` seconds: images done, images a second, time left."""

    def __init__(self, out: TextIO | None = None, every: float = 10.0) -> None:
        self._out, self._every = out or sys.stderr, every
        self._total = self._done = 0
        self._began = self._said = 0.0
        self._what = ""

    def start(self, total: int, what: str) -> None:
        """See `Progress`."""
        self._total, self._done, self._what = total, 0, what
        self._began = self._said = time.monotonic()
        print(f"reading {total} images for {one_line(what)}", file=self._out, flush=True)

    def advance(self) -> None:
        """See `Progress`."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            self._say(now)

    def stop(self) -> None:
        """See `Progress`."""
        self._say(time.monotonic())

    def _say(self, now: float) -> None:
        rate = self._done / max(now - self._began, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        print(
            f"{self._done} of {self._total} images done, {rate:.1f} images/s, {told_time(left)} left",
            file=self._out,
            flush=True,
        )


def told_time(seconds: float) -> str:
    """`42 s`, `7 min 5 s`, `3 h 20 min`: two units at most."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Bar:
    """A bar with images per second and time left, in a notebook a widget where it has ipywidgets."""

    def start(self, total: int, what: str) -> None:
        """See `Progress`."""
        self._bar = _bar()(total=total, desc=f"images for {one_line(what)}", unit=" images", dynamic_ncols=True)

    def advance(self) -> None:
        """See `Progress`."""
        self._bar.update()

    def stop(self) -> None:
        """See `Progress`."""
        self._bar.close()


def _bar() -> Any:
    """The kind of bar that this terminal or notebook can show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a notebook has no ipywidgets: the bar is one of text then
        from tqdm.auto import tqdm
    return tqdm


def watched(stream: TextIO) -> bool:
    """Whether somebody watches the stream: a terminal, or a notebook, whose streams are none."""
    return stream.isatty() or "ipykernel" in sys.modules


def progress_for(stream: TextIO | None) -> Bar | Lines | Quiet:
    """A bar where somebody watches, lines in a log file, nothing where there is no stream."""
    if stream is None:
        return Quiet()
    return Bar() if watched(stream) else Lines(stream)


@contextmanager
def announced(what: str, out: TextIO | None, *, after: float = 1.0, every: float = 10.0) -> Iterator[None]:
    """Says what is being done within, and for how long so far: after some seconds, then every so many.

    Without a stream nothing is said; one that takes nothing ends no work.
    """
    began, over = time.monotonic(), Event()

    def say() -> None:
        with suppress(OSError, ValueError):
            for wait in chain([after], repeat(every)):
                if over.wait(wait):
                    return
                print(f"{one_line(what)}, {told_time(time.monotonic() - began)} so far", file=out, flush=True)

    thread = Thread(target=say, name="announcing", daemon=True)
    if out is not None:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if out is not None:
            thread.join()


class Transfer(Protocol):
    """Told of a file that arrives, in bytes."""

    def start(self, total: int, done: int, what: str) -> None:
        """The file `what` of `total` bytes is coming, and `done` of them are here."""

    def advance(self, count: int) -> None:
        """So many more bytes are here."""

    def stop(self) -> None:
        """All is here, or the connection ended."""


class TransferLines:
    """One line every `every` seconds: megabytes here, and how many there will be."""

    def __init__(self, out: TextIO | None = None, every: float = 10.0) -> None:
        self._out, self._every = out or sys.stderr, every
        self._total = self._done = 0
        self._said = 0.0
        self._what = ""

    def start(self, total: int, done: int, what: str) -> None:
        """See `Transfer`."""
        self._total, self._done, self._what, self._said = total, done, what, time.monotonic()
        here = f", {done / 1e6:.1f} MB of it here already" if done else ""
        print(f"fetching {one_line(what)}: {total / 1e6:.1f} MB{here}", file=self._out, flush=True)

    def advance(self, count: int) -> None:
        """See `Transfer`."""
        self._done += count
        if time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            self._say()

    def stop(self) -> None:
        """See `Transfer`."""
        self._say()

    def _say(self) -> None:
        print(
            f"{one_line(self._what)}: {self._done / 1e6:.1f} of {self._total / 1e6:.1f} MB", file=self._out, flush=True
        )


class TransferBar:
    """A bar with bytes per second and time left."""

    def start(self, total: int, done: int, what: str) -> None:
        """See `Transfer`."""
        size = {"unit": "B", "unit_scale": True, "dynamic_ncols": True}
        self._bar = _bar()(total=total, initial=done, desc=one_line(what), **size)

    def advance(self, count: int) -> None:
        """See `Transfer`."""
        self._bar.update(count)

    def stop(self) -> None:
        """See `Transfer`."""
        self._bar.close()


def transfer_for(stream: TextIO) -> TransferBar | TransferLines:
    """A bar where somebody watches, lines in a log file."""
    return TransferBar() if watched(stream) else TransferLines(stream)
