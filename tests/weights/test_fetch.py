"""Weights from where they are published, put where every verb finds them."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import made_cosines
import pytest
import torch
from made_web import Site, Told, served
from made_weights import make_checkpoint, small_layout, zoo_card
from made_zoo import undigested

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.weights.fetch import fetch, locate
from cxrbench.models.weights.identity import Pins
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard, Weights

CARD = zoo_card("clip_cm")


def published(**changes: Any) -> ModelCard:
    return CARD.model_copy(update={"weights": CARD.weights.model_copy(update=changes)})


def weights() -> bytes:
    stream = io.BytesIO()
    torch.save(make_checkpoint(small_layout("clip")[:5]), stream)
    return stream.getvalue()


def archive(member: str = "pytorch_model.bin", content: bytes = b"weights") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr(member, content)
    return stream.getvalue()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_direct_file_is_fetched_once_and_found(tmp_path: Path) -> None:
    with served(Site(content=weights())) as site:
        card = published(fetch="direct", url=site.url)
        path = fetch(card, None, tmp_path, Told())
        assert path == tmp_path / "weights" / "clip_cm" / "clip_CM.pth" == locate(card, None, tmp_path)
        assert path.read_bytes() == site.content
        assert fetch(card, None, tmp_path, Told()) == path
    assert len(site.asked) == 1


def test_a_folder_that_is_named_is_filled_and_searched(tmp_path: Path) -> None:
    with served(Site(content=weights())) as site:
        card = published(fetch="direct", url=site.url)
        path = fetch(card, tmp_path / "mine", tmp_path / "cache", Told())
    assert path == tmp_path / "mine" / "clip_cm" / "clip_CM.pth" == locate(card, tmp_path / "mine", tmp_path / "cache")
    with pytest.raises(SpecError, match="is a file"):
        fetch(published(files=("other.pth",)), path, tmp_path, Told())


def test_an_archive_gives_its_member_and_goes(tmp_path: Path) -> None:
    with served(Site(content=archive())) as site:
        card = published(fetch="direct", url=site.url, member="pytorch_model.bin")
        path = fetch(card, None, tmp_path, Told())
    assert path.read_bytes() == b"weights"
    assert files(tmp_path / "weights") == ["clip_cm/clip_CM.pth"]


def test_an_archive_that_was_put_there_by_hand_is_taken_without_network(tmp_path: Path) -> None:
    card = published(fetch="direct", url="https://127.0.0.1:1/w/published.zip", member="pytorch_model.bin")
    put = tmp_path / "weights" / "clip_cm" / "published.zip"
    put.parent.mkdir(parents=True)
    put.write_bytes(archive())
    assert fetch(card, None, tmp_path, Told()).read_bytes() == b"weights"
    assert put.exists()


def test_a_hostile_archive_from_the_network_leaves_no_file_but_itself(tmp_path: Path) -> None:
    with served(Site(content=archive("../../evil"))) as site:
        card = published(fetch="direct", url=site.url, member="pytorch_model.bin")
        with pytest.raises(IntegrityError, match=r"'\.\./\.\./evil' is a path that leads out"):
            fetch(card, None, tmp_path, Told())
    assert files(tmp_path) == ["weights/clip_cm/published.bin"]


def test_what_only_a_person_can_fetch_is_told_exactly(tmp_path: Path) -> None:
    card = zoo_card("gloria")
    with pytest.raises(DataError) as refusal:
        fetch(card, None, tmp_path, Told())
    told = str(refusal.value)
    for part in (
        "https://stanfordmedicine.box.com/s/",
        "`chexpert_resnet50.ckpt`",
        str(tmp_path / "weights" / "gloria" / "chexpert_resnet50.ckpt"),
        "`cxrbench weights verify gloria`",
    ):
        assert part in told
    assert not files(tmp_path)


def test_a_server_that_fails_leads_to_the_way_by_hand(tmp_path: Path) -> None:
    with served(Site(status=[404])) as site, pytest.raises(DataError, match=r"answers 404.*Or: clip_cm: open http"):
        fetch(published(fetch="direct", url=site.url), None, tmp_path, Told())


def test_made_tensors_have_no_file_to_fetch(tmp_path: Path) -> None:
    card = CARD.model_copy(update={"weights": Weights(made="drawn from a seed")})
    with pytest.raises(SpecError, match="no file of weights; its tensors are made: drawn from a seed"):
        fetch(card, None, tmp_path, Told())


def test_every_card_says_how_its_weights_are_had() -> None:
    cards = [catalog.load_card(name) for name in catalog.card_files()]
    ways = {card.name: card.weights.fetch for card in cards if card.weights.made is None}
    assert {name for name, way in ways.items() if way == "hub"} >= {"biovil", "biovil_t", "convirt"}
    assert {name for name, way in ways.items() if way == "direct"} >= {"medclip", "medclip_vit", "cxr_clip"}
    by_hand = [card for card in cards if ways.get(card.name) == "by-hand"]
    assert all((card.weights.url or "").startswith("https://") for card in by_hand)


@pytest.mark.parametrize(
    "facts",
    [
        {"fetch": "hub"},
        {"hub": "a/b"},
        {"hub_revision": "v1"},
        {"fetch": "direct"},
        {"fetch": "direct", "url": "http://example.org/w"},
        {"member": "w.bin"},
        {"fetch": "hub", "hub": "a/b/c"},
    ],
)
def test_a_card_that_could_not_be_fetched_is_refused(facts: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"hub|https|member"):
        Weights.model_validate({"files": ["w.pt"], "where": "somewhere", **facts})


def hub_site(repo: str, revision: str, content: dict[str, bytes]) -> Site:
    commit = "0123456789abcdef0123456789abcdef01234567"
    pages = {f"/{repo}/resolve/{rev}/{name}": data for name, data in content.items() for rev in (revision, commit)}
    told = {"sha": commit, "siblings": [{"rfilename": name} for name in content], "id": repo}
    pages |= {f"/api/models/{repo}/revision/{rev}": json.dumps(told).encode() for rev in (revision, commit)}
    tree = [{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in content.items()]
    pages |= {
        f"/api/models/{repo}/tree/{rev}?recursive={yes}&expand={no}": json.dumps(tree).encode()
        for rev in (revision, commit)
        for yes in ("True", "true")
        for no in ("False", "false")
    }
    return Site(files=pages, headers={"X-Repo-Commit": commit})


def on_hub(site: Site, folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, for the hub's address is read once."""
    host = site.url.rpartition("/")[0]
    own = {"HF_ENDPOINT": host, "HF_HOME": str(folder / "hub"), "CXRBENCH_CACHE": str(folder / "cache"), **env}
    command = [sys.executable, "-c", "from cxrbench.cli.main import main; main()", "weights", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own}, timeout=120)


@pytest.mark.slow
def test_a_hub_file_is_fetched_at_its_revision_and_pinned(tmp_path: Path) -> None:
    card = zoo_card("biovil")
    repo, revision = card.weights.hub or "", card.weights.hub_revision or ""
    content = made_cosines.write("biovil", made_cosines.tensors("biovil"), tmp_path / "made.pt").read_bytes()
    with served(hub_site(repo, revision, {card.weights.files[0]: content})) as site:
        other = on_hub(site, tmp_path / "other", "fetch", "biovil", "--no-text")
        done = on_hub(site, tmp_path, "fetch", undigested("biovil", tmp_path), "--no-text")
    assert other.returncode == 4
    assert "the card of biovil says 118c4bb1" in other.stderr  # a made file is not the published one
    assert done.returncode == 0, done.stderr
    assert f"/{repo}/resolve/{revision}/{card.weights.files[0]}" in site.paths
    path = tmp_path / "cache" / "weights" / "biovil" / card.weights.files[0]
    assert path.read_bytes() == content
    assert Pins(tmp_path / "cache").read(path) is not None
    assert "recorded now" in done.stdout


def test_a_hub_without_the_file_and_the_offline_mode_say_what_to_do(tmp_path: Path) -> None:
    with served(Site(files={"/": b""})) as site:
        gone = on_hub(site, tmp_path, "fetch", "convirt", "--no-text")
        site.asked.clear()
        offline = on_hub(site, tmp_path, "fetch", "convirt", "medclip", HF_HUB_OFFLINE="1")
    assert (gone.returncode, offline.returncode) == (3, 3)
    assert "cannot be fetched from youngzhou12/ConVIRT" in gone.stderr
    for model in ("convirt", "medclip"):
        assert f"{model}: HF_HUB_OFFLINE forbids the network" in offline.stderr
    assert "Traceback" not in gone.stderr + offline.stderr
    assert not site.asked
