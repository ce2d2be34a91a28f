"""Recall beside frequency in pre-training: classes matched by name alone, correlation as SciPy's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_predictions import scored_fold, written
from scipy.stats import spearmanr
from typer.testing import CliRunner, Result

from cxrbench.analysis.frequency import frequency
from cxrbench.cli.main import app
from cxrbench.errors import DataError
from cxrbench.pretrain.frequencies import CountedFindings, FindingShare, Frequencies, write
from cxrbench.records.integrity import read_results
from cxrbench.records.record import Record

LABELS = ("Atelectasis", "Lung Opacity", "Pleural_Thickening", "Edema", "Effusion", "Fracture")
SHARES = {"atelectasis": 0.3, "lung opacity": 0.25, "pleural thickening": 0.1, "edema": 0.05, "pleural effusion": 0.2}


def zero_shot(out: Path, **changes: Any) -> Record:
    how = {"protocol": "zero-shot", "tap": "joint", "part": "test", "scores": "logits", "logit_scale": 20.0}
    prompts = {"set": "names", "digest": "1" * 64, "source": "prompts"}
    folds = [scored_fold(0.7, 4, images=20, classes=len(LABELS))]
    return written(out, "clip_cm", folds, data__labels=LABELS, protocol=how, prompts=prompts, **changes)


def corpus(path: Path) -> Path:
    counts = {name: FindingShare(positive=round(1000 * share), of=1000) for name, share in SHARES.items()}
    counts["fracture"] = FindingShare(positive=0, of=0)
    counted = CountedFindings(images=1000, sentences=0, of_images=counts, of_sentences={})
    write(Frequencies(corpus="c" * 64, all=counted, sources={"MIMIC": counted}), path)
    return path


def cli(out: Path, *words: str) -> Result:
    return CliRunner().invoke(
        app, ["table", "frequency", str(corpus(out / "frequencies.json")), "--out", str(out), *words]
    )


def test_classes_meet_findings_of_their_name_and_no_other(tmp_path: Path) -> None:
    found = frequency(zero_shot(tmp_path), {**SHARES, "fracture": None})
    assert [point.label for point in found.points] == ["Atelectasis", "Lung Opacity", "Pleural_Thickening", "Edema"]
    assert found.unmatched == ("Effusion", "Fracture")
    assert (found.rho, found.p) == (None, None)
    assert "4 classes are known to the corpus, fewer than 5" in found.reason


def test_the_correlation_is_scipys(tmp_path: Path) -> None:
    record = zero_shot(tmp_path)
    found = frequency(record, SHARES, {"Effusion": "pleural effusion"})
    assert len(found.points) == 5
    recalls = record.folds[0].metrics["recall"]
    assert [p.recall for p in found.points] == [recalls[LABELS.index(p.label)] for p in found.points]
    expected = spearmanr([p.share for p in found.points], [p.recall for p in found.points])
    assert found.rho == pytest.approx(expected.statistic)
    assert found.p is not None and 2 / 120 <= found.p <= 1


def test_a_perfect_ranking_of_five_has_the_least_p_there_is(tmp_path: Path) -> None:
    record = zero_shot(tmp_path)
    recalls = record.folds[0].metrics["recall"]
    ranked = {label: float(place) / 10 for place, label in enumerate(np.array(LABELS)[np.argsort(recalls)][:5])}
    distinct = len({recalls[LABELS.index(label)] for label in ranked}) == 5
    found = frequency(record, ranked)
    assert found.rho is not None and found.rho == pytest.approx(1.0 if distinct else found.rho)
    assert found.p is not None and found.p < 0.1
    if distinct:
        assert found.p == pytest.approx(2 / 120)


def test_equal_shares_rank_nothing(tmp_path: Path) -> None:
    found = frequency(zero_shot(tmp_path), dict.fromkeys(LABELS, 0.1))
    assert (found.rho, found.reason) == (None, "all classes are alike: there is no ranking")


def test_the_verb_prints_draws_and_writes_json(tmp_path: Path) -> None:
    zero_shot(tmp_path)
    figure = tmp_path / "frequency.svg"
    done = cli(tmp_path, "--same", "Effusion=pleural effusion", "--figure", str(figure))
    assert done.exit_code == 0, done.output
    assert "Spearman's rank correlation" in done.stdout and "Fracture" in done.stdout
    assert "Pleural_Thickening" in figure.read_text()
    (view,) = json.loads(cli(tmp_path, "--format", "json").stdout)
    assert view["points"][0] == {
        "label": "Atelectasis",
        "recall": read_results(tmp_path, tmp_path).records[0].folds[0].metrics["recall"][0],
        "share": 0.3,
    }


def test_a_missing_corpus_says_what_writes_it(tmp_path: Path) -> None:
    zero_shot(tmp_path)
    done = CliRunner().invoke(app, ["table", "frequency", str(tmp_path / "none.json"), "--out", str(tmp_path)])
    assert isinstance(done.exception, DataError)
    assert "cxrbench pretrain" in str(done.exception)
