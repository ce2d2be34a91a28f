"""Published models from raw files to record, on checkpoints with the published layout and made weights."""

from pathlib import Path

import made_pairs
import made_queries
import pytest
from lab import Lab

from cxrbench import catalog
from cxrbench.bench.run import Report

pytestmark = pytest.mark.slow


def measured(lab: Lab, place: Path, name: str, made: object, text: Path, **changes: object) -> Report:
    """A model of the zoo over the drawn COVID images, its made checkpoint under the published name."""
    file = place / "weights" / catalog.load_card(name).weights.files[0]
    file.parent.mkdir(parents=True)
    made.write(name, made.tensors(name), file)  # type: ignore[attr-defined]
    standard = {"weights": file.parent, "text_encoder": text, "groups": ("2-class",), "shots": (2,)}
    return lab.run(place, [], ["covid"], models=[name], **{**standard, **changes})


@pytest.mark.parametrize("settings", [{}, {"sota.preprocessing": "authors"}], ids=["reality-check", "authors"])
def test_medclip_probes_and_scores(settings: dict[str, str], lab: Lab, tmp_path: Path) -> None:
    text = made_pairs.text_folder("medclip")
    report = measured(lab, tmp_path, "medclip", made_pairs, text, settings=settings, prompts=["ensemble"])
    assert not report.problems
    assert {record.protocol.protocol for record in report.records} == {"zero-shot", "linear-probe"}
    assert {r.preprocessing.name for r in report.records} == {"authors" if settings else "reality-check"}
    assert {record.protocol.tap for record in report.records} == {"pooled", "joint"}
    assert all(record.synthetic for record in report.records)
    assert report.encoded == report.decoded


def test_a_query_decoder_is_probed_and_says_that_it_is_not_scored(lab: Lab, tmp_path: Path) -> None:
    text = made_queries.text_folder("kad_224")
    report = measured(lab, tmp_path, "kad_224", made_queries, text, prompts=["names"])
    assert not report.problems
    assert {record.protocol.protocol for record in report.records} == {"linear-probe"}
    (reason,) = report.skipped.values()
    assert "together" in reason
