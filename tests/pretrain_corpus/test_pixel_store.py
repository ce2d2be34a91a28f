"""The store of decoded images: exact, shared, resumable, and never zeros in silence."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxrbench.errors import DataError, ImageError, IntegrityError, RunError
from cxrbench.images.grey import refusing
from cxrbench.images.pixels import pixels_by
from cxrbench.pretrain import image_files, images
from cxrbench.pretrain import pixel_store as module
from cxrbench.pretrain.image_files import ReadPixels, recipe_key
from cxrbench.pretrain.image_files import stored_pixels as stored_array
from cxrbench.pretrain.images import StoredImages, WantedImages, fill_pixel_store
from cxrbench.pretrain.pixel_store import PixelStore
from cxrbench.specs.recipe import Canvas
from cxrbench.system.sources import closure

RECIPE = Canvas(size=32)


def drawn(n: int, mode: str = "L", suffix: str = "PNG", size: tuple[int, int] = (40, 50)) -> bytes:
    """A file whose content depends on n alone."""
    values = np.random.default_rng(n).integers(0, 256, (*size, 3 if mode == "RGB" else 1), np.uint8).squeeze()
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, suffix)
    return stream.getvalue()


def deep(top: int, n: int = 0) -> bytes:
    stream = io.BytesIO()
    values = np.random.default_rng(n).integers(0, top + 1, (30, 40)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, top
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def folder(root: Path, count: int) -> list[Path]:
    root.mkdir(parents=True, exist_ok=True)
    paths = [root / f"{n:03d}.png" for n in range(count)]
    for n, path in enumerate(paths):
        path.write_bytes(drawn(n))
    return paths


def pixel_store(cache: Path) -> PixelStore:
    return PixelStore(cache / "pixels" / recipe_key(RECIPE)[:32], RECIPE.size)


def assert_right(found: StoredImages, paths: list[Path]) -> None:
    rows = np.flatnonzero(found.readable)
    wanted = [stored_array(paths[row].read_bytes(), "x", RECIPE) for row in rows.tolist()]
    assert np.array_equal(found.pixels[rows], np.stack(wanted))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("suffix", ["PNG", "JPEG"])
@pytest.mark.parametrize("antialias", [False, True])
def test_bytes_are_the_recipe_within_half_a_grey_level(mode: str, suffix: str, antialias: bool) -> None:
    recipe = Canvas(size=48, antialias=antialias, mean=(0.5,), std=(0.25,))
    data = drawn(1, mode, suffix, (700, 410))
    exact = pixels_by(data, "x", recipe).array[0] * 0.25 + 0.5
    found = stored_array(data, "x", recipe)
    assert found.shape == (48, 48) and found.dtype == np.uint8
    assert np.abs(found / 255.0 - exact).max() <= 0.5 / 255 + 1e-6


def test_eight_bits_without_resizing_are_kept_exactly() -> None:
    data = drawn(3, size=(32, 32))
    assert np.array_equal(stored_array(data, "x", RECIPE), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("top", [255, 4095, 16383, 65535])
def test_deep_rasters_are_stretched_whatever_their_depth(top: int) -> None:
    found = stored_array(deep(top), "x", Canvas(size=40))
    assert found.min() == 0 and found.max() == 255 and 100 < found[:30].mean() < 155


def test_a_deep_raster_of_one_value_is_refused() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((30, 40), 900, np.uint16)).save(stream, "PNG")
    with pytest.raises(ImageError, match=r"^flat.png: every pixel has the value 900"):
        stored_array(stream.getvalue(), "flat.png", RECIPE)


def test_the_key_knows_the_recipe_but_not_what_comes_after_the_store() -> None:
    assert recipe_key(RECIPE) == recipe_key(RECIPE.model_copy(update={"mean": (0.5,), "std": (0.5,)}))
    others = [{"size": 64}, {"antialias": True}, {"floor": "exact"}, {"polarity": "negated"}]
    assert len({recipe_key(RECIPE.model_copy(update=other)) for other in others} | {recipe_key(RECIPE)}) == 5


def test_images_are_decoded_once_and_then_only_read(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 20)
    first = fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
    assert (first.decoded, first.unreadable, len(first.pixels)) == (20, {}, 20)
    assert_right(first, paths)
    again = fill_pixel_store(WantedImages(paths[::-1], RECIPE, tmp_path / "c"))
    assert again.decoded == 0
    assert_right(again, paths[::-1])


def test_several_processes_decode_the_same(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 40)
    fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "one"))
    fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "two", workers=2))
    assert pixel_store(tmp_path / "one").pixels.read_bytes() == pixel_store(tmp_path / "two").pixels.read_bytes()


def test_corpora_and_copies_share_rows_by_content(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 10)
    fill_pixel_store(WantedImages(paths[:6], RECIPE, tmp_path / "c"))
    copies = [tmp_path / "j" / path.name for path in paths]
    shutil.copytree(tmp_path / "i", tmp_path / "j")
    found = fill_pixel_store(WantedImages([*copies, *paths], RECIPE, tmp_path / "c"))
    assert len(pixel_store(tmp_path / "c").rows()) == 10
    assert_right(found, [*copies, *paths])


def test_a_file_that_changed_is_decoded_again(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 3)
    fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
    paths[1].write_bytes(drawn(99))
    os.utime(paths[1], (1, 1))
    found = fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
    assert found.decoded == 1
    assert_right(found, paths)


def test_unreadable_images_are_listed_and_cannot_be_asked_for(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 5)
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) // 2])
    paths[3].unlink()
    for _ in range(2):
        found = fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
        assert found.readable.tolist() == [True, False, True, False, True]
        assert "001.png" in found.unreadable[1] and "no such file" in found.unreadable[3]
        with pytest.raises(IntegrityError, match="row 3 has no image"):
            found.pixels[np.array([0, 3])]
        assert_right(found, paths)


def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on, by workers that are threads."""
    whole, names = images.read, list[str]()

    def told(path: Path, recipe: Canvas) -> ReadPixels:
        names.append(path.name)
        return whole(path, recipe)

    monkeypatch.setattr(image_files, "read", told)
    return names


def test_files_that_no_decoder_reads_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, names = folder(tmp_path / "i", 4), read_files(monkeypatch)
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) // 2])
    paths[2].chmod(0)
    wanted = WantedImages(paths, RECIPE, tmp_path / "c")
    first = fill_pixel_store(wanted)
    lost = set(first.unreadable)  # who may read everything, as root, reads file 2 as well
    assert names == ["000.png", "001.png", "002.png", "003.png"]
    names.clear()
    again = fill_pixel_store(wanted)
    assert (again.decoded, again.unreadable) == (0, first.unreadable)
    assert names == [paths[n].name for n in sorted(lost - {1})], "a file that cannot be opened may be opened later"
    paths[2].chmod(0o600)
    paths[1].write_bytes(whole)
    mended = fill_pixel_store(wanted)
    assert mended.readable.all() and not mended.unreadable
    assert_right(mended, paths)


def test_other_decoders_have_a_store_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = folder(tmp_path / "i", 3)
    paths[1].write_bytes(b"no picture")
    wanted = WantedImages(paths, RECIPE, tmp_path / "c")
    with monkeypatch.context() as older:
        older.setattr(image_files, "decoders", lambda: "pillow 1.0")
        assert fill_pixel_store(wanted).decoded == 2
    names = read_files(monkeypatch)
    found = fill_pixel_store(wanted)
    assert (found.decoded, list(found.unreadable), len(names)) == (2, [1], 3)
    assert (fill_pixel_store(wanted).decoded, len(names)) == (0, 3)


def test_other_code_has_a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = WantedImages(folder(tmp_path / "i", 3), RECIPE, tmp_path / "c")
    fill_pixel_store(wanted)
    monkeypatch.setattr(image_files, "code_digest", lambda module: f"{module} of tomorrow")
    assert fill_pixel_store(wanted).decoded == 3


def test_the_code_of_pixels_is_all_between_a_file_and_its_pixels_and_no_more() -> None:
    within = closure("cxrbench.pretrain.image_files")
    assert {f"cxrbench.images.{name}" for name in ("dicom", "raster", "grey", "pixels", "steps")} <= set(within)
    assert not {name for name in within if "pretrain" in name} - {"cxrbench.pretrain", "cxrbench.pretrain.image_files"}


@pytest.mark.parametrize("damage", [b"{", b"[" * 100_000, b"", b'{"sha256": "", "content": {}}'])
def test_refusals_that_are_damaged_are_not_believed_and_made_again(
    damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = folder(tmp_path / "i", 3)
    paths[1].write_bytes(b"no picture")
    wanted = WantedImages(paths, RECIPE, tmp_path / "c")
    first, whole = fill_pixel_store(wanted), pixel_store(tmp_path / "c").refusals.read_bytes()
    pixel_store(tmp_path / "c").refusals.write_bytes(damage)
    names = read_files(monkeypatch)
    assert (fill_pixel_store(wanted).unreadable, names) == (first.unreadable, ["001.png"])
    assert pixel_store(tmp_path / "c").refusals.read_bytes() == whole


def test_refusals_become_durable_in_few_writes_and_all_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = list[int](), module.write_sealed

    def counted(path: Path, content: dict[str, str]) -> None:
        write(path, content)
        written.extend([len(content)] if path.name == "refused.json" else [])

    monkeypatch.setattr(module, "write_sealed", counted)
    reasons = {f"{n:064x}": "no picture" for n in range(4000)}
    with pixel_store(tmp_path).writing() as filler:
        for content, reason in reasons.items():
            filler.refuse({content: reason})
        assert len(pixel_store(tmp_path).refused()) > 3400
    assert pixel_store(tmp_path).refused() == reasons
    assert len(written) < 20
    with pytest.raises(KeyboardInterrupt), pixel_store(tmp_path).writing() as filler:
        filler.refuse({"f" * 64: "no picture"})
        raise KeyboardInterrupt
    assert len(pixel_store(tmp_path).refused()) == 4001


def test_a_file_for_which_memory_was_short_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = folder(tmp_path / "i", 2)

    def short(data: bytes, name: str, recipe: object) -> object:
        with refusing(name):
            raise MemoryError
        return None

    with monkeypatch.context() as less:
        less.setattr(image_files, "pixels_by", short)
        with pytest.raises(DataError, match="none of 2 images can be read"):
            fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
    assert fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c")).decoded == 2


def test_a_corpus_without_any_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"none of 1 images can be read; the first: a\.png"):
        fill_pixel_store(WantedImages([tmp_path / "a.png"], RECIPE, tmp_path / "c"))


PROGRAM = """
import sys
from pathlib import Path
from cxrbench.pretrain import image_files, images
from cxrbench.specs.recipe import Canvas
images.BATCH, image_files.GROUP, image_files.AHEAD = 4, 1, 2
paths = sorted(Path(sys.argv[1]).glob("*.png"))
print(images.fill_pixel_store(images.WantedImages(paths, Canvas(size=32), Path(sys.argv[2]))).decoded)
"""


def builder(source: Path, cache: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(source), str(cache)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("batches", [1, 7, 20])
def test_a_killed_builder_is_taken_up_where_it_stopped(tmp_path: Path, batches: int) -> None:
    paths = folder(tmp_path / "i", 400)
    process = builder(tmp_path / "i", tmp_path / "c")
    journal = pixel_store(tmp_path / "c").journal
    entry = 12 + 4 * 36 + 4
    while not journal.exists() or journal.stat().st_size < batches * entry:
        assert process.poll() is None, "the builder was done before it could be killed"
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(pixel_store(tmp_path / "c").rows())
    assert 4 * batches <= kept < 400
    found = fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
    assert 400 - kept <= found.decoded <= 400 - kept + 4, (
        "at most the batch whose table of file hashes line was not written"
    )
    assert_right(found, paths)
    assert pixel_store(tmp_path / "c").damaged() == []
    assert pixel_store(tmp_path / "c").pixels.stat().st_size <= (400 + 4) * 32 * 32, (
        "at most a batch lies there unnamed"
    )


def test_builders_at_the_same_time_decode_each_image_once(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 120)
    builders = [builder(tmp_path / "i", tmp_path / "c") for _ in range(3)]
    decoded = [int(process.communicate(timeout=120)[0]) for process in builders]
    assert sum(decoded) == 120
    assert_right(fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c")), paths)


def test_waiting_for_another_builder_ends_with_an_error(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 2)
    with (
        pixel_store(tmp_path / "c").writing(),
        pytest.raises(RunError, match=r"another process still fills it after 0\.1 s"),
    ):
        fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c", waiting_s=0.1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300))
def test_a_journal_cut_anywhere_loses_only_what_was_cut(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        found = PixelStore(Path(name) / "s", 8)
        pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
        with found.writing() as filler:
            for n in range(6):
                filler.append([f"{n:064x}"], pictures[n : n + 1])
        data = found.journal.read_bytes()
        found.journal.write_bytes(data[: max(len(data) - cut, 0)])
        whole = max(len(data) - cut, 0) // (len(data) // 6)
        assert len(found.rows()) == whole
        with found.writing() as filler:
            filler.append(["f" * 64], pictures[5:])
        assert found.rows()["f" * 64] == 6, "behind all that another process may have mapped"
        assert np.array_equal(found.mapped(7).array, pictures[[*range(6), 5]])
        assert found.damaged() == []


def spoil(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_damaged_pixels_are_never_handed_out_but_decoded_again(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 5)
    wanted = WantedImages(paths, RECIPE, tmp_path / "c")
    sound, found = fill_pixel_store(wanted).pixels[np.arange(5)], fill_pixel_store(wanted)
    spoil(pixel_store(tmp_path / "c").pixels, 3 * 1024 + 100, b"\xff\x00\xff")
    assert pixel_store(tmp_path / "c").damaged() == [3]
    for _ in range(2):
        assert np.array_equal(found.pixels[np.array([4, 3, 0, 3])], sound[[4, 3, 0, 3]])
    assert found.pixels.notes == [
        f"the pixels of {paths[3]} in {pixel_store(tmp_path / 'c').folder} were damaged; the file was decoded again"
    ]
    assert pixel_store(tmp_path / "c").damaged() == [], "the mended image has taken its place"
    again = fill_pixel_store(wanted)
    assert np.array_equal(again.pixels[np.arange(5)], sound)
    assert (again.decoded, again.pixels.notes, again.digest) == (0, [], found.digest)


def test_damaged_pixels_of_a_file_that_changed_are_refused_by_name(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 3)
    found = fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
    spoil(pixel_store(tmp_path / "c").pixels, 1024, b"\xff\x00\xff")
    paths[1].write_bytes(drawn(77))
    with pytest.raises(IntegrityError, match=r"the pixels of .*001\.png are not what was written.*Restore the file"):
        found.pixels[np.arange(3)]
    paths[1].unlink()
    with pytest.raises(IntegrityError, match=r"001\.png.*no such file"):
        found.pixels[np.arange(3)]


def test_a_mended_image_that_finds_no_place_is_told_and_still_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = folder(tmp_path / "i", 2)
    wanted = WantedImages(paths, RECIPE, tmp_path / "c")
    sound, found = fill_pixel_store(wanted).pixels[np.arange(2)], fill_pixel_store(wanted)
    spoil(pixel_store(tmp_path / "c").pixels, 0, b"\xff\x00\xff")
    monkeypatch.setattr(images, "PATIENCE_S", 0.05)
    with pixel_store(tmp_path / "c").writing():
        assert np.array_equal(found.pixels[np.arange(2)], sound)
    assert "once more by the next run" in found.pixels.notes[1]


def test_a_store_that_is_damaged_all_over_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_MENDED", 3)
    found = fill_pixel_store(WantedImages(folder(tmp_path / "i", 6), RECIPE, tmp_path / "c"))
    pixel_store(tmp_path / "c").pixels.write_bytes(bytes(6 * 1024))
    with pytest.raises(IntegrityError, match=r"more than 3 images are not what was written.*remove .*then --resume"):
        found.pixels[np.arange(6)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_happens_to_the_files_of_a_store_its_images_are_right(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("store")
    paths = folder(place / "i", 6)
    for batch in (paths[:2], paths[:4], paths):
        fill_pixel_store(WantedImages(batch, RECIPE, place / "c"))
    file = pixel_store(place / "c").folder / data.draw(st.sampled_from(["pixels.u8", "journal.bin"]))
    raw = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    file.write_bytes(raw)
    for asked in (paths[3:], paths):
        assert_right(fill_pixel_store(WantedImages(asked, RECIPE, place / "c")), asked)
    assert len(pixel_store(place / "c").rows()) == 6


def test_a_process_that_fills_a_damaged_store_takes_nothing_from_one_that_reads_it(tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 6)
    for batch in (paths[:3], paths):
        reading = fill_pixel_store(WantedImages(batch, RECIPE, tmp_path / "c"))
    sound = reading.pixels[np.arange(6)]
    spoil(pixel_store(tmp_path / "c").journal, 20, b"\xff")
    assert fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c")).decoded == 6
    assert np.array_equal(reading.pixels[np.arange(6)], sound)


@pytest.mark.parametrize("name", ["pixels.u8", "journal.bin"])
def test_a_pipe_in_the_place_of_a_store_is_not_waited_for(name: str, tmp_path: Path) -> None:
    paths = folder(tmp_path / "i", 2)
    fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
    (pixel_store(tmp_path / "c").folder / name).unlink()
    os.mkfifo(pixel_store(tmp_path / "c").folder / name)
    with pytest.raises(IntegrityError, match=rf"{name}: is"):
        fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))


@pytest.mark.slow
def test_a_file_that_kills_its_reader_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    program = (
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from cxrbench.pretrain import image_files\n"
        "sound = image_files.stored_pixels\n"
        "def deadly(data, name, recipe):\n"
        "    if name == '005.png': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return sound(data, name, recipe)\n"
        "image_files.stored_pixels = deadly\n"
        "if __name__ == '__main__':\n"
        "    from cxrbench.pretrain.images import WantedImages, fill_pixel_store\n"
        "    from cxrbench.specs.recipe import Canvas\n"
        "    paths = sorted(Path(sys.argv[1]).glob('*.png'))\n"
        "    found = fill_pixel_store(WantedImages(paths, Canvas(size=32), Path(sys.argv[2]), workers=2))\n"
        "    print(found.decoded, found.unreadable)\n"
    )
    paths = folder(tmp_path / "i", 40)
    (tmp_path / "deadly.py").write_text(program)
    command = [sys.executable, str(tmp_path / "deadly.py"), str(tmp_path / "i"), str(tmp_path / "c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.startswith("39 {5: '005.png: the process that decodes it dies"), done.stderr
    own = [*paths[:5], *paths[6:]]
    assert_right(fill_pixel_store(WantedImages(own, RECIPE, tmp_path / "c")), own)


def test_a_disk_without_room_is_told_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(RunError, match=r"3 decoded images take 0\.00 GB, the disk has 0\.00 GB left"):
        fill_pixel_store(WantedImages(folder(tmp_path / "i", 3), RECIPE, tmp_path / "c"))


def test_a_disk_that_fills_up_keeps_whole_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BATCH", 4)
    paths, calls, sync = folder(tmp_path / "i", 12), iter(range(100)), os.fdatasync

    def full(handle: int) -> None:
        if next(calls) == 5:  # one for the size, two for each batch
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(RunError, match=r"No space left on device\. Make room and start again"):
        fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
    assert len(pixel_store(tmp_path / "c").rows()) == 8
    found = fill_pixel_store(WantedImages(paths, RECIPE, tmp_path / "c"))
    assert found.decoded == 4
    assert_right(found, paths)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"")
    with pytest.raises(RunError, match="Name a folder that can be written"):
        fill_pixel_store(WantedImages(folder(tmp_path / "i", 2), RECIPE, tmp_path / "c"))
