"""One sweep of files through stand-ins for networks: what is wanted is there, once, right, whoever fails beside it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_keys import made_key

from cxrbench.errors import CxrBenchError, ImageError, RunError
from cxrbench.images.pixels import Pixels
from cxrbench.runner import decoding
from cxrbench.runner.encode import Demands, Sweep, encode
from cxrbench.specs.recipe import Canvas
from cxrbench.store import committer, digest
from cxrbench.store.embeddings import Key, Store
from cxrbench.store.file_hashes import FileHashes
from cxrbench.system.progress import Quiet

UNREADABLE = 200  # numbers from here on are of files that no recipe reads
SMALL, LARGE = Canvas(size=4), Canvas(size=6)


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of one byte is a picture of that number, after a while that depends on it."""

    def pixels(data: bytes, name: str, recipes: Sequence[Canvas], reader: str) -> list[Any]:
        time.sleep(0.003 * (data[0] % 3))
        if data[0] >= UNREADABLE:
            return [ImageError(f"{name}: cut") for _ in recipes]
        return [Pixels(np.full((1, r.size, r.size), data[0], np.float32), (f"note {data[0]}",)) for r in recipes]

    monkeypatch.setattr(decoding, "pixels", pixels)


class Network:
    """Vectors (number, size of the picture); what it was given, and when results are asked for."""

    def __init__(self, fails: Callable[[np.ndarray], BaseException | None] = lambda images: None) -> None:
        self.seen, self._fails = list[np.ndarray](), fails

    def __call__(self, images: np.ndarray, keys: Sequence[Key]) -> Mapping[Key, Any]:
        self.seen.append(images[:, 0, 0, 0].copy())
        error = self._fails(images)
        if error is not None:
            raise error
        # Read when results are asked for, as a device does that copies behind the processor.
        return {key: lambda: {"pooled": np.stack([images[:, 0, 0, 0], images[:, 0].sum((1, 2))], 1)} for key in keys}


def key(name: str) -> Key:
    return replace(made_key(), weights=name)


def encoder(network: Any, *keys: Key, recipe: Canvas = SMALL, **about: Any) -> decoding.Encoder:
    outputs = {one: {"pooled": 2} for one in keys}
    return decoding.Encoder(recipe, outputs, lambda: network, lambda: {"device": "cpu"}, keys[0].weights, **about)


def written(folder: Path, numbers: Sequence[int]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{place}.png" for place in range(len(numbers))]
    for path, number in zip(paths, numbers, strict=True):
        path.write_bytes(bytes([number]))
    return paths


def content(number: int) -> str:
    return digest.of_bytes(bytes([number]))


def sweep(
    place: Path,
    paths: Sequence[Path],
    encoders: Sequence[decoding.Encoder],
    wants: Mapping[Key, Sequence[int]] | None = None,
    known: Sequence[str | None] | None = None,
) -> Sweep:
    """Everything by default is wanted of every file, of which nothing is known."""
    every = {one: range(len(paths)) for own in encoders for one in own.outputs} if wants is None else wants
    wanted = {one: np.array(sorted(own), np.int64) for one, own in every.items()}
    hashes = FileHashes(place, place)
    asked = Demands(paths, known or [None] * len(paths), wanted, wanted)
    return encode(asked, encoders, Store(place), lambda _: hashes, batch_size=4, workers=3, progress=Quiet())


def rows(place: Path, one: Key, numbers: Sequence[int]) -> list[list[float]]:
    return Store(place).read(one).rows("pooled", [content(number) for number in numbers]).tolist()


def test_images_reach_a_network_in_the_order_of_the_files_whichever_is_decoded_first(tmp_path: Path) -> None:
    network, numbers = Network(), [5, 3, 4, 9, 1, 2, 8, 7, 11]
    found = sweep(tmp_path, written(tmp_path / "data", numbers), [encoder(network, key("a"))])
    assert [batch.tolist() for batch in network.seen] == [[5, 3, 4, 9], [1, 2, 8, 7], [11] * 4]
    assert (found.decoded, found.encoded, found.broken, found.problems) == (9, 9, {}, [])
    assert rows(tmp_path, key("a"), numbers) == [[n, 16 * n] for n in numbers]
    assert found.embeddings[key("a")].notes(content(9)) == ("note 9",)


def test_encoders_that_want_the_same_share_the_memory_of_a_batch(tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    def network(name: str) -> Any:
        def forward(images: np.ndarray, keys: Sequence[Key]) -> Any:
            seen[name].append(id(images.base if images.base is not None else images))
            return Network()(images, keys)

        return forward

    encoders = [encoder(network(name), key(name)) for name in "ab"]
    encoders += [encoder(network("c"), key("c"), recipe=LARGE)]
    sweep(tmp_path, written(tmp_path / "data", [1, 2, 3, 4]), encoders)
    assert seen["a"] == seen["b"] != seen["c"]
    assert [rows(tmp_path, key(name), [3]) for name in "abc"] == [[[3, 48]], [[3, 48]], [[3, 108]]]


WANTS = st.lists(st.sets(st.integers(0, 11), max_size=12), min_size=5, max_size=5)


@given(
    numbers=st.lists(st.sampled_from([1, 2, 3, 4, 5, UNREADABLE]), min_size=12, max_size=12),
    wants=WANTS,
    stored=WANTS,
    known=st.sets(st.integers(0, 11)),
)
@settings(max_examples=30, deadline=None)
def test_what_is_wanted_is_there_once_and_right(
    numbers: list[int],
    wants: list[set[int]],
    stored: list[set[int]],
    known: set[int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Several keys of one encoder, several encoders, copies, files that nobody reads, hashes that are known or not."""
    place = tmp_path_factory.mktemp("sweep")
    paths, names = written(place / "data", numbers), [key(name) for name in "abcde"]
    sound = [{n for n in own if numbers[n] < UNREADABLE} for own in stored]
    before = [encoder(Network(), one) for one in names]
    sweep(place, paths, before, dict(zip(names, sound, strict=True)))
    networks = [Network(), Network(), Network()]
    encoders = [
        encoder(networks[0], names[0], names[1]),
        encoder(networks[1], names[2]),
        encoder(networks[2], names[3], names[4]),
    ]
    told = [content(n) if place in known else None for place, n in enumerate(numbers)]
    found = sweep(place, paths, encoders, dict(zip(names, wants, strict=True)), told)
    assert not found.broken and not found.problems
    for one, own, before_it in zip(names, wants, sound, strict=True):
        there = sorted({numbers[n] for n in own | before_it} - {UNREADABLE})
        assert len(Store(place).read(one)) == len(there)
        assert rows(place, one, there) == [[n, 16 * n] for n in there] if there else True
        assert sum(len(shard.images) for shard in Store(place).read(one)._shards) == len(there), "none twice"
    lost = {paths[n] for own in wants for n in own if numbers[n] == UNREADABLE}
    assert set(found.unreadable) == lost


def test_results_are_fetched_while_the_next_batch_is_computed(tmp_path: Path) -> None:
    """And its memory is not filled again before."""
    begun, late = [threading.Event() for _ in range(3)], list[bool]()
    plain = Network()

    def forward(images: np.ndarray, keys: Sequence[Key]) -> Any:
        number = len(plain.seen)
        begun[number].set()
        found = plain(images, keys)

        def later(fetch: Callable[[], Any]) -> Callable[[], Any]:
            def fetched() -> Any:
                late.append(number == 2 or begun[number + 1].wait(20))
                return fetch()

            return fetched

        return {one: later(fetch) for one, fetch in found.items()}

    numbers = list(range(1, 13))
    sweep(tmp_path, written(tmp_path / "data", numbers), [encoder(forward, key("a"))])
    assert late == [True, True, True]
    assert rows(tmp_path, key("a"), numbers) == [[n, 16 * n] for n in numbers]


def test_a_device_that_is_short_of_memory_gets_half_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "new_buffer", lambda shape, cuda: np.empty(shape, np.float32))
    short = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    network = Network(lambda images: short if len(images) > 2 else None)
    encoders = [encoder(network, key("a"), cuda="cuda"), encoder(Network(), key("b"), cuda="cuda")]
    numbers = [1, 2, 3, 4, 5, 6, 7]
    found = sweep(tmp_path, written(tmp_path / "data", numbers), encoders)
    assert found.remarks == ["a: too little memory on the device for a batch of 4: 2 from now on"]
    assert [batch.tolist() for batch in network.seen] == [[1, 2, 3, 4], [1, 2], [3, 4], [5, 6], [7, 7]]
    assert not found.broken and found.encoded == 14
    for name, size in (("a", "2"), ("b", "4")):
        assert rows(tmp_path, key(name), numbers) == [[n, 16 * n] for n in numbers]
        assert {e["batch_size"] for e in found.embeddings[key(name)].engines(list(map(content, numbers)))} == {size}


def test_a_device_that_is_short_of_memory_for_one_image_ends_its_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "new_buffer", lambda shape, cuda: np.empty(shape, np.float32))
    network = Network(lambda images: torch.cuda.OutOfMemoryError("CUDA out of memory"))
    encoders = [encoder(network, key("a"), cuda="cuda"), encoder(Network(), key("b"))]
    found = sweep(tmp_path, written(tmp_path / "data", [1, 2, 3]), encoders)
    assert [len(batch) for batch in network.seen] == [4, 2, 1]
    assert set(found.broken) == {key("a")} and "too little memory" in str(found.broken[key("a")])
    assert rows(tmp_path, key("b"), [1, 2, 3]) == [[1, 16], [2, 32], [3, 48]]


def test_no_more_files_are_read_once_every_model_has_failed(tmp_path: Path) -> None:
    """One that works goes on to the end."""
    failing, numbers = Network(lambda images: ValueError("no such layer")), list(range(1, 201))
    paths = written(tmp_path / "data", numbers)
    found = sweep(tmp_path, paths, [encoder(failing, key("a")), encoder(failing, key("b"))])
    assert set(found.broken) == {key("a"), key("b")} and found.encoded == 0
    assert found.decoded < 100
    beside = sweep(tmp_path, paths, [encoder(failing, key("a")), encoder(Network(), key("c"))])
    assert set(beside.broken) == {key("a")} and beside.encoded == beside.decoded > 190


@pytest.mark.parametrize("where", ["forward", "fetch"])
def test_an_error_of_the_device_ends_its_model_alone_and_keeps_what_was_finished(where: str, tmp_path: Path) -> None:
    plain = Network()

    def forward(images: np.ndarray, keys: Sequence[Key]) -> Any:
        found = plain(images, keys)

        def failing() -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        if len(plain.seen) < 3:
            return found
        return failing() if where == "forward" else dict.fromkeys(found, failing)

    numbers = list(range(1, 13))
    encoders = [encoder(forward, key("a")), encoder(Network(), key("b"))]
    found = sweep(tmp_path, written(tmp_path / "data", numbers), encoders)
    assert set(found.broken) == {key("a")} and "a: RuntimeError: CUDA error" in str(found.broken[key("a")])
    assert rows(tmp_path, key("a"), numbers[:8]) == [[n, 16 * n] for n in numbers[:8]]
    assert rows(tmp_path, key("b"), numbers) == [[n, 16 * n] for n in numbers]


def test_a_network_leaves_its_device_when_its_part_is_over_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last file is not decoded before; the images that a batch lacks are filled up as at the end of a sweep."""
    gone, left, plain = threading.Event(), list[str](), decoding.pixels

    def pixels(data: bytes, *about: Any) -> list[Any]:
        assert data[0] != 12 or gone.wait(20), "no network has left"
        return plain(data, *about)

    def leave(name: str) -> None:
        left.append(name)
        gone.set()

    monkeypatch.setattr(decoding, "pixels", pixels)
    networks = {name: Network() for name in "abc"}
    encoders = [encoder(networks[name], key(name), leave=partial(leave, name)) for name in "abc"]
    numbers = range(1, 13)
    wants = {key("a"): range(5), key("b"): range(12), key("c"): range(12)}
    found = sweep(tmp_path, written(tmp_path / "data", numbers), encoders, wants)
    assert left == ["a"], "who works until the end is wanted for texts next"
    assert (found.broken, found.problems, found.remarks) == ({}, [], [])
    assert [batch.tolist() for batch in networks["a"].seen] == [[1, 2, 3, 4], [5] * 4]
    assert [len(networks[name].seen) for name in "bc"] == [3, 3]
    assert rows(tmp_path, key("a"), numbers[:5]) == [[n, 16 * n] for n in numbers[:5]]


def test_a_network_that_serves_two_encoders_stays_until_the_second_is_done(tmp_path: Path) -> None:
    left, network = list[int](), Network()

    def leave() -> None:
        left.append(len(network.seen))

    encoders = [encoder(network, key("a"), leave=leave), encoder(network, key("b"), recipe=LARGE, leave=leave)]
    encoders += [encoder(Network(), key("c"))]
    encoders += [encoder(Network(), key("d"), leave=leave)]  # of which nothing is asked
    wants = {key("a"): range(4), key("b"): range(10), key("c"): range(40), key("d"): range(0)}
    found = sweep(tmp_path, written(tmp_path / "data", range(1, 41)), encoders, wants)
    assert left == [4] and not found.broken and not found.remarks


@pytest.mark.parametrize("unread", [(), (4,), (0, 1, 2, 3, 4)], ids=["all", "without its last", "without any"])
def test_a_part_is_over_whatever_becomes_of_its_files(unread: tuple[int, ...], tmp_path: Path) -> None:
    left, numbers = list[str](), [UNREADABLE + n if n in unread else n + 1 for n in range(40)]
    encoders = [encoder(Network(), key(name), leave=partial(left.append, name)) for name in "ab"]
    found = sweep(tmp_path, written(tmp_path / "data", numbers), encoders, {key("a"): range(5), key("b"): range(40)})
    assert left == ["a"]
    assert len(found.embeddings[key("a")]) == 5 - len(unread)


@pytest.mark.parametrize("leaving", [None, RuntimeError("CUDA error: the device is gone")])
def test_a_network_that_failed_leaves_its_device_at_once(leaving: Exception | None, tmp_path: Path) -> None:
    gone = list[int]()

    def leave() -> None:
        gone.append(len(other.seen))
        if leaving is not None:
            raise leaving

    other, numbers = Network(), range(1, 13)
    failing = Network(lambda images: RuntimeError("CUDA error"))
    encoders = [encoder(failing, key("a"), leave=leave), encoder(other, key("b"))]
    found = sweep(tmp_path, written(tmp_path / "data", numbers), encoders)
    assert gone == [0] and len(failing.seen) == 1
    assert set(found.broken) == {key("a")} and "a: RuntimeError: CUDA error" in str(found.broken[key("a")])
    assert len(found.remarks) == (leaving is not None)
    assert rows(tmp_path, key("b"), numbers) == [[n, 16 * n] for n in numbers]


def test_who_is_interrupted_keeps_what_was_finished_and_leaves_no_thread(tmp_path: Path) -> None:
    network = Network(lambda images: KeyboardInterrupt() if len(network.seen) == 3 else None)
    numbers, threads = list(range(1, 41)), threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path, written(tmp_path / "data", numbers), [encoder(network, key("a"))])
    assert threading.active_count() == threads
    assert rows(tmp_path, key("a"), numbers[:8]) == [[n, 16 * n] for n in numbers[:8]]
    assert content(9) not in Store(tmp_path).read(key("a"))


def test_rows_become_durable_while_the_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "EVERY_S", 0.0)
    there = list[int]()

    def fails(images: np.ndarray) -> None:
        end = time.monotonic() + 20
        while len(there) and len(Store(tmp_path).read(key("a"))) < there[-1] + 4 and time.monotonic() < end:
            time.sleep(0.005)
        there.append(len(Store(tmp_path).read(key("a"))))

    sweep(tmp_path, written(tmp_path / "data", range(1, 13)), [encoder(Network(fails), key("a"))])
    assert there == [0, 4, 8]


def test_a_job_that_lets_an_error_through_is_told_and_ends_no_other() -> None:
    done = list[int]()

    def failing() -> None:
        raise RunError("a job")

    with pytest.raises(CxrBenchError, match="a job"), committer.Committer(lambda: done.append(0)) as thread:
        thread.submit(failing)
        thread._jobs.put(lambda: done.append(1))
    assert done == [1, 0]
