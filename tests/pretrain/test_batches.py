"""What reaches the network: masks by source, texts and changes drawn anew where the recipe says so, labels in place."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_lessons import NAMES, made_corpus, made_pixels, small_choices
from made_training import made_loop

from cxrbench.pretrain.batches import Batch, BatchPlace, Feed
from cxrbench.pretrain.config import build_config
from cxrbench.pretrain.engine import Whole, loss, pixels
from cxrbench.pretrain.network import Pairs, Tokens, find_text_encoder, unicl_loss, unicl_targets

ROWS = 60
ALL = np.arange(ROWS)


def feed(folder: Path, place: BatchPlace | None = None, **more: str) -> Feed:
    config = build_config(None, small_choices(folder / "text", **({"objective": "clip"} | more)))
    corpus = made_corpus(ROWS)
    return Feed(corpus, made_pixels(corpus), config, place or BatchPlace(), find_text_encoder(config))


def ids(batches: Iterator[Batch]) -> list[list[list[int]]]:
    return [batch.tokens.ids.tolist() for batch in batches if batch.tokens is not None]


def test_labels_count_inside_the_space_of_their_source_only(tmp_path: Path) -> None:
    corpus = made_corpus(ROWS)
    batches = list(feed(tmp_path).validation(ALL, 0))
    masks, labels = (torch.cat([getattr(b, name) for b in batches]) for name in ("mask", "labels"))
    for row, source in enumerate(corpus.source):
        assert masks[row].tolist() == [int(c in corpus.spaces[source]) for c in range(len(NAMES))]
    assert torch.equal(labels, torch.from_numpy(corpus.labels.astype(np.uint8)))
    assert {int(row.sum()) for row in masks} == {4, 5}


def test_texts_and_changes_are_drawn_anew_each_epoch_and_for_validation_unless_fixed(tmp_path: Path) -> None:
    released, fixed = feed(tmp_path), feed(tmp_path, data__validation_draws="fixed")
    assert ids(released.validation(ALL, 0)) != ids(released.validation(ALL, 1))
    assert ids(fixed.validation(ALL, 0)) == ids(fixed.validation(ALL, 1))
    one, other = (next(released.validation(ALL, epoch)).chances for epoch in (0, 1))
    assert one is not None and other is not None and not torch.equal(one, other)
    assert next(fixed.validation(ALL, 0)).chances is None
    assert next(fixed.training(ALL, 0)).chances is not None


def counting(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts the feed's tokenizer is given at a time, from now on."""
    whole, sizes = feed._tokenizer, list[int]()

    def counted(texts: list[str], **how: object) -> object:
        sizes.append(len(texts))
        return whole(texts, **how)

    counted.pad_token_id, counted.padding_side = whole.pad_token_id, whole.padding_side  # type: ignore[attr-defined]
    monkeypatch.setattr(feed, "_tokenizer", counted)
    return sizes


@pytest.mark.parametrize("objective", ["clip", "unicl", "dlilp"])
def test_processes_cut_their_own_texts_only_and_together_make_the_whole_batch(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = feed(tmp_path, objective=objective, data__batch_size="21")
    parts = [feed(tmp_path, BatchPlace(rank, 3), objective=objective, data__batch_size="7") for rank in range(3)]
    cut = [counting(part, monkeypatch) for part in parts]
    lengths: set[int] = set()
    for one, *own in zip(whole.training(ALL, 0), *(part.training(ALL, 0) for part in parts), strict=True):
        assert one.tokens is not None
        longest = max(batch.longest for batch in own)
        lengths |= {batch.longest for batch in own}
        assert one.longest == longest == one.tokens.ids.shape[1]
        wide = [tokens for batch in own if (tokens := batch.widened(longest).tokens) is not None]
        for name in ("ids", "mask"):
            gathered = torch.cat([getattr(tokens, name) for tokens in wide])
            assert torch.equal(gathered[own[0].texts], getattr(one.tokens, name)[one.texts])
        assert torch.equal(torch.cat([batch.text_labels for batch in own]), one.text_labels)
        for name in ("labels", "mask", "pairs"):
            assert all(torch.equal(getattr(batch, name), getattr(one, name)) for batch in own)
    assert cut == [[7, 7, 6]] * 3
    assert len(lengths) > 1


def test_padding_grows_on_the_side_of_the_tokenizer() -> None:
    ids, mask = torch.tensor([[5, 6, 7], [8, 1, 1]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    right = Tokens(ids, mask, filler=1).widened(5)
    assert right.ids.tolist() == [[5, 6, 7, 1, 1], [8, 1, 1, 1, 1]]
    assert right.mask.sum(1).tolist() == [3, 1]
    left = Tokens(ids.flip(1), mask.flip(1), filler=1, left=True).widened(4)
    assert left.ids.tolist() == [[1, 7, 6, 5], [1, 1, 1, 8]]
    assert left.mask.tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]


def test_images_are_changed_as_their_chances_say(tmp_path: Path) -> None:
    config = build_config(None, small_choices(tmp_path / "text"))
    batch = next(feed(tmp_path).training(ALL, 0))
    found, plain = pixels(batch, config), batch.pixels.float().expand(-1, 3, -1, -1) / 255
    assert batch.chances is not None
    flipped = batch.chances[:, 0] < 0.5
    calm = (batch.chances[:, 1] >= 0.25) & (batch.chances[:, 4] >= 0.25)
    assert (calm & flipped).any() and (calm & ~flipped).any() and (~calm).any()
    assert torch.equal(found[calm & flipped], plain[calm & flipped].flip(3))
    assert torch.equal(found[calm & ~flipped], plain[calm & ~flipped])
    assert not torch.equal(found[~calm], plain[~calm])


def test_images_are_matched_with_their_study_and_texts_with_what_they_say(tmp_path: Path) -> None:
    config = build_config(None, small_choices(tmp_path / "text", objective="unicl"))
    run = made_loop(tmp_path / "run", config, ROWS)
    batch = next(run._feed.training(ALL, 0))
    assert (batch.text_labels.sum(1) <= batch.labels.sum(1).clamp(min=1)).all()
    assert not torch.equal(batch.labels, batch.text_labels)
    rng = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(16, 8, generator=rng), dim=1) for _ in range(2))
    found = loss(run.engine.network, Whole(image, None, text, batch.text_labels), batch, config)
    wanted = unicl_loss(Pairs(image, text, torch.tensor(1 / 0.07)), unicl_targets(batch.labels, batch.text_labels))
    torch.testing.assert_close(found, wanted)
