"""Files that are replaced between two runs: neither size nor time says so, the numbers must."""

import os
from pathlib import Path

import pytest
from lab import Lab, by_id, copied


@pytest.mark.parametrize("how", ["in place", "in its place"])
def test_a_replaced_file_is_read_again_though_size_and_time_are_the_same(how: str, lab: Lab, tmp_path: Path) -> None:
    own, folder = copied(lab, tmp_path / "data")
    first = own.run(tmp_path, ["small_unimodal"], ["covid"])
    normal, other = sorted((folder / "Normal/images").glob("*.png")), sorted((folder / "COVID/images").glob("*.png"))
    target, source = next((a, b) for a in normal for b in other if a.stat().st_size > b.stat().st_size)
    before = target.stat()
    place = target if how == "in place" else folder / "other"
    place.write_bytes(source.read_bytes().ljust(before.st_size, b"\0"))
    place.replace(target)
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (target.stat().st_size, target.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = own.run(tmp_path, ["small_unimodal"], ["covid"])
    assert (second.decoded, second.cached) == (1, 0)
    assert by_id(second) == by_id(own.run(tmp_path / "fresh", ["small_unimodal"], ["covid"]))
    assert by_id(second) != by_id(first)
