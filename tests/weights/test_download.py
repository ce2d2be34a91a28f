"""Downloads over a bad line: whole or not at all, and never of two files at once."""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_web import CONTENT, Site, Told, served

from cxrbench.errors import DataError, IntegrityError
from cxrbench.models.weights.fetch import download

PAGE = b"\n<!DOCTYPE html><html><body>Sign in to download</body></html>"


def fetched(site: Site, folder: Path) -> bytes:
    download(site.url, folder / "w.pt", Told())
    return (folder / "w.pt").read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_arrives_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    told = Told()
    with served(Site()) as site:
        download(site.url, tmp_path / "deep" / "w.pt", told)
    assert (tmp_path / "deep" / "w.pt").read_bytes() == CONTENT
    assert names(tmp_path / "deep") == {"w.pt"}
    assert (told.starts, told.came, told.stops) == ([(len(CONTENT), 0)], len(CONTENT), 1)
    assert site.asked[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("cuts", [[1], [0], [300_000], [262_144, 1, 100_000], [767_999]])
def test_a_cut_connection_is_continued_where_it_ended(cuts: list[int], tmp_path: Path) -> None:
    with served(Site(cuts=list(cuts))) as site:
        assert fetched(site, tmp_path) == CONTENT
    ends = [sum(cuts[: n + 1]) for n in range(len(cuts))]
    assert [a.get("Range") for a in site.asked[1:]] == [f"bytes={end}-" if end else None for end in ends]
    assert {a.get("If-Range") for a in site.asked[1:]} == {'"one"' if ends[0] else None}
    assert names(tmp_path) == {"w.pt"}


def test_a_later_run_goes_on_from_the_part_of_an_earlier_one(tmp_path: Path) -> None:
    with served(Site(cuts=[500_000, 0, 0, 0, 0])) as site:
        with pytest.raises(DataError, match=r"500000 of 768000 bytes are kept in .*w\.pt\.part; the same command"):
            fetched(site, tmp_path)
        assert not (tmp_path / "w.pt").exists()
        assert (tmp_path / "w.pt.part").read_bytes() == CONTENT[:500_000]
        site.cuts, site.asked = [], []
        told = Told()
        download(site.url, tmp_path / "w.pt", told)
    assert (tmp_path / "w.pt").read_bytes() == CONTENT
    assert site.asked[0]["Range"] == "bytes=500000-"
    assert (told.starts, told.came) == ([(len(CONTENT), 500_000)], 268_000)


def test_a_part_that_was_whole_when_the_program_died_is_only_renamed(tmp_path: Path) -> None:
    with served(Site(cuts=[500_000, 0, 0, 0, 0])) as site:
        with pytest.raises(DataError):
            fetched(site, tmp_path)
        (tmp_path / "w.pt.part").write_bytes(CONTENT)
        site.asked = []
        assert fetched(site, tmp_path) == CONTENT
    assert not site.asked


def test_a_server_without_ranges_starts_again(tmp_path: Path) -> None:
    with served(Site(ranges=False, cuts=[400_000, 500_000])) as site:
        assert fetched(site, tmp_path) == CONTENT
    assert len(site.asked) == 3


@pytest.mark.parametrize("if_range", [True, False], ids=["honest", "gives any range"])
def test_a_file_that_changed_between_parts_is_not_patched_together(if_range: bool, tmp_path: Path) -> None:
    with served(Site(cuts=[400_000, 0, 0, 0, 0], if_range=if_range)) as site:
        with pytest.raises(DataError):
            fetched(site, tmp_path)
        site.cuts, site.content, site.etag = [], b"\x80" + CONTENT[::-1], '"two"'
        assert fetched(site, tmp_path) == site.content
    assert names(tmp_path) == {"w.pt"}


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_continued(etag: str | None, tmp_path: Path) -> None:
    with served(Site(cuts=[400_000], etag=etag)) as site:
        assert fetched(site, tmp_path) == CONTENT
    assert all("Range" not in asked for asked in site.asked)


def test_a_part_of_unknown_origin_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "w.pt.part").write_bytes(b"something else")
    with served(Site()) as site:
        assert fetched(site, tmp_path) == CONTENT
    assert "Range" not in site.asked[0]


@pytest.mark.parametrize(
    ("site", "says"),
    [
        (Site(kind="text/html; charset=utf-8", content=PAGE), "a web page, not the file"),
        (Site(content=PAGE), "a web page, not the file"),
        (Site(headers={"Content-Encoding": "gzip"}), "encoded"),
        (Site(cuts=[1000], extra=5), "768005 bytes came, 768000 were announced"),
    ],
    ids=["page", "page called a file", "encoded", "too long"],
)
def test_what_is_not_the_file_is_refused_at_once_and_nothing_is_kept(site: Site, says: str, tmp_path: Path) -> None:
    with served(site), pytest.raises(IntegrityError, match=says):
        fetched(site, tmp_path)
    assert len(site.asked) == 1 + bool(site.extra)
    assert not names(tmp_path) - {"w.pt.lock"}


@pytest.mark.parametrize(
    ("site", "says", "asked"),
    [
        (Site(status=[404]), "answers 404", 1),
        (Site(status=[403]), "answers 403", 1),
        (Site(length=False), "does not say how long", 1),
        (Site(status=[503] * 9), "answers 503", 4),
        (Site(cuts=[0] * 9), "0 of 768000 bytes", 4),
    ],
    ids=["gone", "forbidden", "no length", "busy", "always cut"],
)
def test_what_cannot_be_had_is_told_with_the_address(site: Site, says: str, asked: int, tmp_path: Path) -> None:
    with served(site), pytest.raises(DataError, match=says) as refusal:
        fetched(site, tmp_path)
    assert site.url in str(refusal.value)
    assert len(site.asked) == asked
    assert not (tmp_path / "w.pt").exists()


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    with served(Site(status=[503, 429])) as site:
        assert fetched(site, tmp_path) == CONTENT


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with served(Site()) as site:
        pass
    with pytest.raises(DataError, match="127"):
        fetched(site, tmp_path)


def test_weights_whose_first_bytes_spell_the_start_of_a_page_are_taken(tmp_path: Path) -> None:
    with served(Site(content=b" <\0\0\0\0\0\0{" + CONTENT)) as site:
        assert fetched(site, tmp_path) == site.content


def test_two_processes_that_both_have_the_lock_get_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some mounts of a cluster, where a lock is given to everybody."""
    monkeypatch.setattr("cxrbench.models.weights.fetch.FileLock", lambda _: contextlib.nullcontext())
    with served(Site(cuts=[1000, 300_000, 2000])) as site, ThreadPoolExecutor(3) as pool:
        done = [pool.submit(fetched, site, tmp_path) for _ in range(3)]
        assert [future.exception() for future in done] == [None] * 3
    assert (tmp_path / "w.pt").read_bytes() == CONTENT
    assert names(tmp_path) == {"w.pt"}


def test_the_part_of_a_killed_process_is_gone_on_with_after_a_while(tmp_path: Path) -> None:
    with served(Site(cuts=[500_000, 0, 0, 0, 0])) as site:
        with pytest.raises(DataError):
            fetched(site, tmp_path)
        for name in ("w.pt.part", "w.pt.part.json"):  # as its own process called them
            (tmp_path / name).rename(tmp_path / name.replace(".part", ".0123.part"))
        os.utime(tmp_path / "w.pt.0123.part", (1, 1))
        site.cuts, site.asked = [], []
        assert fetched(site, tmp_path) == CONTENT
    assert site.asked[0]["Range"] == "bytes=500000-"
    assert names(tmp_path) == {"w.pt"}
