"""MIMIC-CXR's raw reports become a corpus, and a trained encoder, with no table of labels at hand."""

import json
from pathlib import Path

import pytest
from made_corpus import built, sentence_table
from made_lessons import small_choices

from cxrbench.errors import DataError, SpecError
from cxrbench.phantom.write import write_corpus
from cxrbench.pretrain.config import build_config
from cxrbench.pretrain.corpus.build import Built, CorpusRequest
from cxrbench.pretrain.corpus.mimic import Reports
from cxrbench.pretrain.corpus.variants import corpus_variant
from cxrbench.pretrain.job import Job, pretrain
from cxrbench.system.progress import Quiet


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom of MIMIC-CXR-JPG; its own table of sentences is put out of reach, in `kept`."""
    root = write_corpus("MIMIC", tmp_path_factory.mktemp("drawn"), images_per_class=3, size=(64, 64)).root
    (root.parent / "kept").mkdir()
    (root / "labels_individual_sentences.csv").rename(root.parent / "kept/labels_individual_sentences.csv")
    return root


def told(found: Built) -> list[tuple[str, frozenset[str]]]:
    """Every distinct sentence with its categories."""
    corpus = found.corpus
    named = [(s.text, frozenset(corpus.classes[c] for c in s.categories)) for row in corpus.sentences for s in row]
    return sorted(set(named), key=lambda one: one[0])


def test_the_reports_alone_become_the_corpus_that_the_table_gives(drawn: Path) -> None:
    by_table = built({"MIMIC": drawn}, reports=Reports(table=drawn.parent / "kept/labels_individual_sentences.csv"))
    by_rules = built({"MIMIC": drawn}, reports=Reports(labeller="rules"))
    assert by_rules.corpus.ids == by_table.corpus.ids
    assert by_rules.labelled_by["MIMIC"].startswith("rule labeller after CheXpert (facts ")
    assert by_table.labelled_by["MIMIC"].startswith("the table labels_individual_sentences.csv (SHA-256 ")
    assert by_rules.to_json()["labelled_by"] == dict(by_rules.labelled_by)
    theirs, ours = dict(told(by_table)), dict(told(by_rules))
    assert ours.keys() == theirs.keys()
    # The phantom says what it draws: its own word on one finding a sentence, where the rules name all that they find.
    drawn_findings = [(text, name) for text, names in theirs.items() for name in names - {"no finding"}]
    missed = [(text, name) for text, name in drawn_findings if name not in ours[text]]
    assert len(drawn_findings) > 30
    assert all("concerning for pneumonia" in text or "nodular lesion" in text for text, _ in missed), missed


def test_sentences_without_a_mention_are_left_out_on_request(drawn: Path) -> None:
    faithful, mentioned = (built({"MIMIC": drawn}, reports=Reports(labeller=n)) for n in ("rules", "rules-mentioned"))
    lost = {text for text, _ in told(faithful)} - {text for text, _ in told(mentioned)}
    assert "Comparison is made to the prior study." in lost
    assert dict(told(faithful))["Comparison is made to the prior study."] == {"no finding"}
    assert not [text for text in lost if "effusion" in text.lower()]
    assert "without sentences that mention no finding" in mentioned.labelled_by["MIMIC"]
    assert any("sentences that the labeller does not know" in note for note in mentioned.notes)


def test_a_dlilp_is_trained_from_raw_reports_without_any_table(drawn: Path, tmp_path: Path) -> None:
    choices = small_choices(tmp_path / "text", objective="dlilp", schedule__epochs="1", data__batch_size="16")
    corpus = CorpusRequest({"MIMIC": drawn}, corpus_variant("as-meant"), reports=Reports(labeller="rules"))
    said: list[str] = []
    card = pretrain(
        Job(build_config(None, choices), corpus, tmp_path / "run", tmp_path / "cache"), Quiet(), said.append
    )
    assert (card.name, card.pretraining, card.synthetic) == ("run", ("M",), True)
    assert any(note.startswith("Labels of MIMIC by rule labeller after CheXpert") for note in card.notes)
    assert any(line.startswith("MIMIC: labels by rule labeller after CheXpert") for line in said)
    kept = json.loads((tmp_path / "run/corpus.json").read_text())
    assert kept["labelled_by"]["MIMIC"].startswith("rule labeller after CheXpert")
    assert kept["counts"]["MIMIC"]["reports: labelled sentences"] == kept["counts"]["MIMIC"]["reports: sentences"] > 50


def test_two_sources_of_labels_and_reports_that_are_nowhere_are_refused(drawn: Path, tmp_path: Path) -> None:
    table = sentence_table(tmp_path / "mine.csv", [("s1", "Edema.", {"Edema": 1.0})])
    with pytest.raises(SpecError, match="is labelled already"):
        built({"MIMIC": drawn}, reports=Reports(table=table, labeller="rules"))
    with pytest.raises(SpecError, match="none of rules, rules-mentioned, a table"):
        built({"MIMIC": drawn}, reports=Reports(labeller="rule"))
    (drawn / "mimic-cxr-reports").rename(drawn / "elsewhere")
    try:
        with pytest.raises(DataError, match=r"no folder mimic-cxr-reports.*--reports"):
            built({"MIMIC": drawn}, reports=Reports(labeller="rules"))
    finally:
        (drawn / "elsewhere").rename(drawn / "mimic-cxr-reports")
