"""The digest first seen is the one to be seen ever after, and a converted file keeps that of its source."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_weights import make_checkpoint, small_card, small_layout
from safetensors.torch import load_file, save_file

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.base import find_weights, load_adapter
from cxrbench.models.checkpoint import read_checkpoint
from cxrbench.models.converted import beside, origin
from cxrbench.models.weights import identity
from cxrbench.models.weights.identity import Pins, WeightsIdentity, convert
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest

CARD = small_card("unimodal_cm")


def weights_identity(path: Path, card: ModelCard, cache: Path, *, accept: bool = False) -> WeightsIdentity:
    """The identity of a file that its model took."""
    found = identity.weights_identity(path, card, cache, accept=accept)
    identity.record(found, cache)
    return found


NAME = "unimodal_CM.pth"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(make_checkpoint(small_layout("unimodal")[:40]), tmp_path / NAME)
    return tmp_path / NAME


def other(path: Path) -> Path:
    torch.save(make_checkpoint(small_layout("unimodal")[:40], seed=1), path)
    return path


def test_the_first_digest_is_kept_with_size_model_and_time(file: Path, tmp_path: Path) -> None:
    found = weights_identity(file, CARD, tmp_path / "cache")
    assert found.sha256 == digest.of_file(file)
    assert (found.fresh, found.converted, found.published, found.size) == (True, False, NAME, file.stat().st_size)
    pin = Pins(tmp_path / "cache").read(file)
    assert pin == found.pin
    assert (pin.card, pin.sha256, pin.size) == (CARD.name, found.sha256, found.size)
    again = weights_identity(file, CARD, tmp_path / "cache")
    assert (again.fresh, again.pin) == (False, found.pin)


def test_an_unchanged_file_is_not_read_again(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = weights_identity(file, CARD, tmp_path)
    monkeypatch.setattr(digest, "of_file", lambda path: pytest.fail(f"{path} is hashed again"))
    assert weights_identity(file, CARD, tmp_path).sha256 == first.sha256


def test_another_digest_is_refused_with_both_and_can_be_accepted(file: Path, tmp_path: Path) -> None:
    first = weights_identity(file, CARD, tmp_path)
    other(file)
    with pytest.raises(IntegrityError) as refusal:
        weights_identity(file, CARD, tmp_path)
    told = str(refusal.value)
    for part in (first.sha256, digest.of_file(file), first.pin.first_seen, f"weights verify {CARD.name} --accept"):
        assert part in told
    accepted = weights_identity(file, CARD, tmp_path, accept=True)
    assert accepted.sha256 == digest.of_file(file) != first.sha256
    assert not weights_identity(file, CARD, tmp_path).fresh


def test_nothing_is_recorded_of_a_file_that_was_only_looked_at(file: Path, tmp_path: Path) -> None:
    assert identity.weights_identity(file, CARD, tmp_path).fresh
    assert identity.weights_identity(other(file), CARD, tmp_path).fresh


def test_another_process_that_was_first_is_believed(file: Path, tmp_path: Path) -> None:
    early = identity.weights_identity(file, CARD, tmp_path)
    weights_identity(other(file), CARD, tmp_path)
    with pytest.raises(IntegrityError, match="when it was first seen"):
        identity.record(early, tmp_path)
    accepted = identity.weights_identity(file, CARD, tmp_path, accept=True)
    identity.record(accepted, tmp_path)


def test_a_link_is_the_file_it_leads_to(file: Path, tmp_path: Path) -> None:
    weights_identity(file, CARD, tmp_path)
    (tmp_path / "link.pth").symlink_to(file)
    assert not weights_identity(tmp_path / "link.pth", CARD, tmp_path).fresh


def test_damaged_pins_are_no_empty_pins(file: Path, tmp_path: Path) -> None:
    weights_identity(file, CARD, tmp_path)
    pin = Pins(tmp_path).file(file)
    pin.write_text(pin.read_text()[:-20])
    with pytest.raises(IntegrityError, match="as first seen is damaged"):
        weights_identity(file, CARD, tmp_path)


def test_processes_that_see_files_at_once_lose_no_pin(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cxrbench.models.weights.identity import Pin, Pins\n"
        "for n in range(25): Pins(Path(sys.argv[1])).hold(Path(f'{sys.argv[2]}-{n}'),"
        " Pin(sha256='0' * 64, size=n, card='a', first_seen='now'))\n"
    )
    works = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name]) for name in ("a", "b", "c")]
    assert [work.wait(timeout=120) for work in works] == [0, 0, 0]
    assert len(list(Pins(tmp_path).folder.glob("*.json"))) == 75


def test_of_processes_that_see_other_bytes_in_one_place_one_is_believed_without_a_lock(tmp_path: Path) -> None:
    """The same file at the same moment, on a mount that gives a lock to everybody."""
    program = (
        "import fcntl, sys; from pathlib import Path; fcntl.flock = lambda *_: None\n"
        "from cxrbench.errors import IntegrityError; from cxrbench.models.weights.identity import Pin, Pins\n"
        "print('ready', flush=True); sys.stdin.readline(); kept = 0\n"
        "for n in range(40):\n"
        "    pin = Pin(sha256=sys.argv[2] * 64, size=n, card='a', first_seen='b')\n"
        "    try: Pins(Path(sys.argv[1])).hold(Path(f'{n}'), pin)\n"
        "    except IntegrityError: continue\n"
        "    kept += 1\n"
        "print(kept)\n"
    )
    works = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abc"
    ]
    for work in works:
        assert work.stdout is not None and work.stdout.readline() == "ready\n"
    kept = [int(work.communicate("\n", timeout=120)[0]) for work in works]
    assert sum(kept) == 40


def test_a_digest_on_the_card_is_enforced(file: Path, tmp_path: Path) -> None:
    facts = CARD.weights.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(IntegrityError, match="the card of"):
        weights_identity(file, CARD.model_copy(update={"weights": facts}), tmp_path)
    assert Pins(tmp_path).read(file) is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        weights_identity(tmp_path / NAME, CARD, tmp_path)


def test_a_converted_file_has_its_sources_identity_and_is_taken_instead(file: Path, tmp_path: Path) -> None:
    first = weights_identity(file, CARD, tmp_path / "cache")
    found = convert(file, CARD, tmp_path / "cache")
    assert found.file == beside(file) == find_weights(CARD, tmp_path) == find_weights(CARD, file)
    assert (found.published_sha256, found.published, found.converted) == (first.sha256, NAME, True)
    assert found.pin.sha256 == found.sha256 == digest.of_file(found.file) != found.source == found.pin.source
    assert found.tensors == first.tensors
    file.unlink()
    again = weights_identity(find_weights(CARD, tmp_path), CARD, tmp_path / "cache")
    assert (again.published_sha256, again.tensors) == (first.sha256, first.tensors)
    elsewhere = weights_identity(found.file, CARD, tmp_path / "another")  # where the published file was never read
    assert (elsewhere.published_sha256, elsewhere.tensors) == (found.sha256, first.tensors)
    with pytest.raises(SpecError, match="safetensors already"):
        convert(found.file, CARD, tmp_path / "cache")


def test_converting_twice_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    first = digest.of_file(convert(file, CARD, tmp_path).file)
    beside(file).unlink()
    assert digest.of_file(convert(file, CARD, tmp_path).file) == first


@pytest.mark.parametrize("change", ["value", "name", "shape", "dropped"])
def test_a_converted_file_with_other_tensors_is_refused(change: str, file: Path, tmp_path: Path) -> None:
    path = convert(file, CARD, tmp_path / "cache").file
    told = {"cxrbench.origin": origin(path).model_dump_json()}  # type: ignore[union-attr]
    tensors = load_file(path)
    name = next(n for n, tensor in tensors.items() if tensor.ndim == 2)
    tensor = tensors.pop(name)
    tensors |= {
        "value": {name: tensor + 1e-3},
        "name": {f"{name}x": tensor},
        "shape": {name: tensor.T.contiguous()},
        "dropped": {},
    }[change]
    save_file(tensors, path, told)
    for cache in ("cache", "fresh"):
        with pytest.raises(IntegrityError, match="not those that were converted"):
            weights_identity(path, CARD, tmp_path / cache)
    with pytest.raises(IntegrityError, match="not those that were converted"):
        read_checkpoint(path)


def test_a_source_that_changed_after_it_was_converted_is_noticed(file: Path, tmp_path: Path) -> None:
    path = convert(file, CARD, tmp_path / "cache").file
    other(file)
    for cache in ("cache", "fresh"):
        with pytest.raises(IntegrityError, match="the one beside it has"):
            weights_identity(path, CARD, tmp_path / cache)
    with pytest.raises(IntegrityError, match="the one beside it has"):
        read_checkpoint(path)


def test_a_converted_file_of_other_weights_than_were_seen_is_noticed(file: Path, tmp_path: Path) -> None:
    weights_identity(file, CARD, tmp_path / "cache")
    (tmp_path / "else").mkdir()
    made = convert(other(tmp_path / "else" / NAME), CARD, tmp_path / "other cache").file
    made.rename(beside(file))
    file.unlink()
    with pytest.raises(IntegrityError, match="was converted from"):
        weights_identity(beside(file), CARD, tmp_path / "cache")


def test_a_converted_file_serves_the_container_it_was_made_for(file: Path, tmp_path: Path) -> None:
    path = convert(file, CARD, tmp_path).file
    with pytest.raises(
        IntegrityError, match=r"converted for a card with container \[\].*Convert unimodal_CM\.pth again"
    ):
        read_checkpoint(path, ("state_dict",))


@pytest.mark.parametrize("told", ['{"file": "../w.pt"}', "{", '{"file":"a","sha256":"b","tensors":"c"}'])
def test_a_header_that_makes_no_sense_is_refused(told: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"cxrbench.origin": told})
    with pytest.raises(IntegrityError, match="header does not say where it comes from"):
        read_checkpoint(path)


def test_a_damaged_converted_file_is_not_passed_over_in_silence(file: Path, tmp_path: Path) -> None:
    path = convert(file, CARD, tmp_path).file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(IntegrityError, match="damaged safetensors"):
        find_weights(CARD, tmp_path)


def test_safetensors_beside_that_was_not_converted_is_not_taken_instead(file: Path, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, beside(file))
    assert find_weights(CARD, tmp_path) == file


def test_a_converted_file_from_elsewhere_says_that_only_its_header_vouches_for_it(file: Path, tmp_path: Path) -> None:
    found = convert(file, CARD, tmp_path / "cache")
    assert found.proven
    assert weights_identity(file, CARD, tmp_path / "cache").proven
    file.unlink()
    assert weights_identity(found.file, CARD, tmp_path / "cache").proven  # both were read here
    elsewhere = weights_identity(found.file, CARD, tmp_path / "another")
    assert (elsewhere.claimed, elsewhere.proven) == (found.source, False)


def forged(file: Path, place: Path) -> Path:
    """Other tensors under a header that names the published file, as anybody can write it."""
    place.mkdir()
    sha256 = digest.of_file(file)
    path = convert(other(file), CARD, place / "cache").file
    told = origin(path)
    assert told is not None
    tensors = load_file(path)
    path.unlink()
    file.unlink()
    lie = told.model_copy(update={"sha256": sha256})
    save_file(tensors, path, {"cxrbench.origin": lie.model_dump_json()})
    return path


def pinned(sha256: str) -> ModelCard:
    return CARD.model_copy(update={"weights": CARD.weights.model_copy(update={"sha256": sha256})})


def test_a_lie_about_the_source_is_found_where_the_source_was_read(file: Path, tmp_path: Path) -> None:
    genuine = weights_identity(file, CARD, tmp_path / "cache")
    path = forged(file, tmp_path / "forger")
    with pytest.raises(IntegrityError, match="holds other tensors"):
        weights_identity(path, CARD, tmp_path / "cache")
    stranger = weights_identity(path, CARD, tmp_path / "elsewhere")  # nothing to hold it against, but other keys
    assert stranger.tensors != genuine.tensors
    assert stranger.published_sha256 != genuine.sha256


def test_a_claim_never_satisfies_the_digest_on_a_card_unless_it_is_accepted(file: Path, tmp_path: Path) -> None:
    sha256 = digest.of_file(file)
    card, path = pinned(sha256), forged(file, tmp_path / "forger")
    for _ in range(2):
        with pytest.raises(IntegrityError, match="only its own header says"):
            weights_identity(path, card, tmp_path / "cache")
    with pytest.raises(IntegrityError, match="sha256 is"):
        load_adapter(card, path)
    taken = weights_identity(path, card, tmp_path / "cache", accept=True)
    again = weights_identity(path, card, tmp_path / "cache")
    assert taken.claimed == again.claimed == sha256
    assert again.pin.claim_accepted


def test_a_faithful_conversion_satisfies_the_digest_on_a_card(file: Path, tmp_path: Path) -> None:
    card = pinned(digest.of_file(file))
    path = convert(file, card, tmp_path / "cache").file
    file.unlink()
    assert weights_identity(path, card, tmp_path / "cache").published_sha256 == card.weights.sha256


def test_two_sections_of_one_file_are_two_weights(tmp_path: Path) -> None:
    tensors = make_checkpoint(small_layout("unimodal")[:10])
    torch.save({"model": tensors, "ema": {n: t + 1 for n, t in tensors.items()}}, tmp_path / NAME)
    facts = [CARD.weights.model_copy(update={"container": (key,)}) for key in ("model", "ema")]
    cards = [CARD.model_copy(update={"weights": weights}) for weights in facts]
    found = [weights_identity(tmp_path / NAME, card, tmp_path / "cache").tensors for card in cards]
    assert found[0] != found[1]
    torch.save(tensors, tmp_path / "plain.pth")
    assert weights_identity(tmp_path / "plain.pth", CARD, tmp_path / "cache").tensors == found[0]


def test_what_a_card_ignores_is_no_part_of_the_weights(tmp_path: Path) -> None:
    tensors, places = make_checkpoint(small_layout("unimodal")[:10]), []
    for place, extra in (("a", {}), ("b", {"queue": torch.zeros(3)}), ("c", {"queue": torch.ones(3)})):
        (tmp_path / place).mkdir()
        torch.save({**tensors, **extra}, tmp_path / place / NAME)
        places.append(tmp_path / place / NAME)
    facts = CARD.weights.model_copy(update={"ignored": {"queue": "of training"}})
    card = CARD.model_copy(update={"weights": facts})
    assert len({weights_identity(path, card, tmp_path / "cache").tensors for path in places}) == 1
    assert len({weights_identity(path, CARD, tmp_path / "cache").tensors for path in places}) == 3


def test_a_path_that_is_no_utf8_is_named_as_the_cause(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mo\udcffdel"
    folder.mkdir()
    path = convert(file, CARD, tmp_path / "cache").file.rename(folder / "w.safetensors")
    with pytest.raises(SpecError, match=r"no UTF-8.*rename"):
        weights_identity(path, CARD, tmp_path / "cache")
