"""Raw reports: sections, sentences, and who labels them."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_corpus import CHEXPERT, built, labels, mimic_image, mimic_tables, subject_of, table, touch

from cxrbench.errors import DataError, SpecError
from cxrbench.phantom.reports import phrases, report
from cxrbench.pretrain.corpus.labellers import labeller, plain, table_labeller
from cxrbench.pretrain.corpus.mimic import Reports
from cxrbench.pretrain.corpus.sentences import report_sentences, sections, sentences
from cxrbench.pretrain.corpus.variants import corpus_variant

HEADINGS = corpus_variant("as-published").mimic.headings
NAMES = [name.lower() for name in CHEXPERT]

TEXT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with fever.  Rule out pneumonia.

 COMPARISON:  None.

 FINDINGS:

 PA and lateral views were obtained.  There is a 2.3 cm nodule seen by Dr. ___ in
 the right lung.  No effusion!

 IMPRESSION:

 1. Nodule, approx. 2.3 cm.
 2. No acute process.

 NOTIFICATION:  Findings were told at 3:15 p.m. by phone.
"""


def test_findings_and_impression_are_read_and_nothing_else() -> None:
    found = sections(TEXT, HEADINGS)
    assert list(found) == ["findings", "impression"]
    assert found["findings"].startswith("PA and lateral") and found["findings"].endswith("No effusion!")
    assert found["impression"] == "1. Nodule, approx. 2.3 cm. 2. No acute process."


def test_sentences_end_where_they_end() -> None:
    assert report_sentences(TEXT, HEADINGS) == (
        "PA and lateral views were obtained.",
        "There is a 2.3 cm nodule seen by Dr. ___ in the right lung.",
        "No effusion!",
        "Nodule, approx. 2.3 cm.",
        "No acute process.",
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("IMPRESSION: No change.", ("No change.",)),
        ("FINDINGS AND IMPRESSION:\r\nClear. Clear.\r\n", ("Clear.",)),
        ("CONCLUSION:  Effusion", ("Effusion",)),
        ("WET READ: Edema.\nINDICATION: Cough.", ()),
        ("No heading at all.", ()),
        ("FINDINGS:\n\n\nIMPRESSION:\n  ", ()),
        ("FINDINGS: Heart size: normal.\n  Lungs: clear.", ("Heart size: normal.", "Lungs: clear.")),
        ("FINDINGS: ___.", ()),
        ("", ()),
    ],
)
def test_other_forms_of_reports(text: str, wanted: tuple[str, ...]) -> None:
    assert report_sentences(text, HEADINGS) == wanted


WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=8)
SENTENCE = st.lists(WORD, min_size=1, max_size=8).map(lambda words: " ".join(words).capitalize())
ENDS = {"no", "vs", "dr", "st", "mr", "ms", "mrs", "drs", "fig", "ca", "cf", "etc", "prof", "resp", "approx"}


@given(st.lists(st.tuples(SENTENCE, st.sampled_from(".!?")), max_size=8), st.sampled_from([" ", "  ", "\n ", "\n\n "]))
def test_plain_sentences_come_back_whole_and_in_order(made: list[tuple[str, str]], gap: str) -> None:
    wanted = [text + end for text, end in made if text.split()[-1].lower() not in ENDS]
    assert list(sentences(gap.join(wanted))) == [" ".join(text.split()) for text in wanted]


@given(st.text("abAB. !?_()1234\n", max_size=80))
def test_nothing_but_list_numbers_and_wordless_bits_is_lost(text: str) -> None:
    kept = [word for sentence in sentences(text) for word in sentence.split()]
    words = iter(text.split())
    assert all(word in words for word in kept), "words stay in order"
    lost = Counter(text.split()) - Counter(kept)
    assert all(not re.search("[abAB]{2}", word) for word in lost)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1. Nodule 2. No change 3. Edema.", ("Nodule", "No change", "Edema.")),
        ("1) Nodule. 2) No change.", ("Nodule.", "No change.")),
        ("Clear. 1. Nodule. 2. Edema.", ("Clear.", "Nodule.", "Edema.")),
        ("The nodule measures 2 x 3. The heart is normal.", ("The nodule measures 2 x 3.", "The heart is normal.")),
    ],
)
def test_numbered_lists(text: str, wanted: tuple[str, ...]) -> None:
    assert sentences(text) == wanted


@given(st.lists(st.tuples(st.sampled_from(["FINDINGS", "IMPRESSION", "TECHNIQUE", "HISTORY"]), SENTENCE), max_size=6))
def test_each_sentence_stands_under_its_own_heading(made: list[tuple[str, str]]) -> None:
    found = sections("\n".join(f" {heading}:\n  {text}.\n" for heading, text in made), HEADINGS)
    for heading in ("FINDINGS", "IMPRESSION"):
        told = [f"{text}." for name, text in made if name == heading]
        assert found.get(heading.lower(), "") == " ".join(told)
    assert set(found) <= {"findings", "impression"}


@given(st.integers(0, 10**6), st.sampled_from(sorted(phrases().present)))
def test_reports_of_the_phantoms_are_read_sentence_by_sentence(seed: int, finding: str) -> None:
    import numpy as np

    made = report([finding], {finding: "left"}, True, np.random.default_rng(seed))
    assert report_sentences(made.text("s50000001"), HEADINGS) == tuple(dict.fromkeys(s.text for s in made.sentences))


# Labellers


def sentence_labels(path: Path, *rows: dict[str, object]) -> Path:
    return table(path, ["sentences", *CHEXPERT], rows)


def test_a_table_labels_sentences_whatever_their_case_and_blanks(tmp_path: Path) -> None:
    path = sentence_labels(
        tmp_path / "t.csv", {"sentences": "Small  Effusion.", "Pleural Effusion": 1.0, "Edema": -1.0}
    )
    found = table_labeller(path, NAMES)(["small effusion.", "SMALL EFFUSION. ", "Other."])
    assert found == [frozenset({"pleural effusion"})] * 2 + [None]


def test_a_table_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    rows = [{"sentences": "Edema.", "Edema": 1.0}, {"sentences": "EDEMA.", "Edema": 0.0}]
    with pytest.raises(DataError, match="contradict each other"):
        table_labeller(sentence_labels(tmp_path / "t.csv", *rows), NAMES)


def test_what_is_no_labeller_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be imported"):
        labeller("no_such_module:label", NAMES)
    with pytest.raises(SpecError, match="Supply labels_individual_sentences"):
        labeller("chexbert", NAMES)
    with pytest.raises(DataError, match="needs a column sentences"):
        labeller(str(table(tmp_path / "t.csv", ["a", "b"], [{"a": 1}])), NAMES)


def words(sentences: Sequence[str]) -> list[Collection[str] | None]:
    """A labeller of one's own: knows two words, denies what stands after `no`, and not every sentence."""
    known = {"effusion": "Pleural Effusion", "nodule": "Lung Lesion"}
    return [
        None if "views" in s else [v for k, v in known.items() if k in s.lower() and f"no {k}" not in s.lower()]
        for s in sentences
    ]


def odd(sentences: Sequence[str]) -> list[Collection[str]]:
    return [["COVID"] for _ in sentences]


def short(sentences: Sequence[str]) -> list[Collection[str]]:
    return [[]]


STUDIES = ("50000001", "50000002", "50000003")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    mimic_tables(tmp_path, [(f"{n}", study, "AP", "train") for n, study in enumerate(STUDIES)])
    touch(*(mimic_image(tmp_path / "files", f"{n}", study) for n, study in enumerate(STUDIES)))
    return tmp_path


def write_reports(tree: Path, inside: bool, texts: dict[str, bytes]) -> Path:
    root = tree / "mimic-cxr-reports"
    for study, text in texts.items():
        subject = subject_of(study)
        folder = root / "files" / f"p{subject[:2]}" / f"p{subject}"
        path = (folder / f"s{study}" if inside else folder) / f"s{study}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return root


@pytest.mark.parametrize("inside", [False, True])
def test_sentences_are_made_from_reports_beside_or_in_study_folders(
    tree: Path, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {STUDIES[0]: TEXT.encode(), STUDIES[1]: b"INDICATION: Cough.\n"}
    root = write_reports(tree, inside, texts)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    found = built({"MIMIC": tree}, reports=Reports(reports=root, labeller="test_corpus_reports:words"))
    assert found.corpus.ids == ("0",)
    assert labels(found, 0) == {"lung lesion"}
    assert [s.text for s in found.corpus.sentences[0]] == list(report_sentences(TEXT, HEADINGS))[1:]
    counts = found.counts["MIMIC"]
    assert {k.removeprefix("reports: "): v for k, v in counts.items() if k.startswith("reports: ")} == {
        "studies": 3,
        "with report": 2,
        "with findings or impression": 1,
        "sentences": 5,
        "labelled sentences": 4,
    }
    told = " ".join(found.notes)
    assert "1 studies without a report" in told and "1 sentences that the labeller does not know" in told


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("odd", "names 'covid'; known are: "), ("short", "gave 1 answers for 5 sentences")],
)
def test_labellers_that_answer_otherwise_are_refused(
    tree: Path, name: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_reports(tree, False, {STUDIES[0]: TEXT.encode()})
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(DataError, match=complaint):
        built({"MIMIC": tree}, reports=Reports(reports=root, labeller=f"test_corpus_reports:{name}"))


def failing(sentences: Sequence[str]) -> None:
    raise KeyError(sentences[0])


def test_a_labeller_that_fails_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_reports(tree, False, {STUDIES[0]: TEXT.encode()})
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(DataError, match="the labeller failing failed over 5 sentences: KeyError"):
        built({"MIMIC": tree}, reports=Reports(reports=root, labeller="test_corpus_reports:failing"))


def test_one_report_that_is_no_text_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_reports(tree, False, {STUDIES[0]: TEXT.encode(), STUDIES[1]: bytes(99)})
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(DataError, match=rf"s{STUDIES[1]}\.txt: is no text"):
        built({"MIMIC": tree}, reports=Reports(reports=root, labeller="test_corpus_reports:words"))


@pytest.mark.parametrize("made", [os.mkfifo, Path.mkdir])
def test_a_pipe_or_folder_is_no_report(
    made: Callable[[Path], None], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_reports(tree, False, {study: TEXT.encode() for study in STUDIES[:2]})
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    path = next(path for path in root.rglob("*.txt") if STUDIES[1] in path.name)
    path.unlink()
    made(path)
    found = built({"MIMIC": tree}, reports=Reports(reports=root, labeller="test_corpus_reports:words"))
    assert any("2 studies without a report" in note for note in found.notes)


def test_a_table_that_knows_no_sentence_is_refused(tree: Path, tmp_path: Path) -> None:
    root = write_reports(tree, False, {STUDIES[0]: TEXT.encode()})
    path = sentence_labels(tmp_path / "t.csv", {"sentences": "Other.", "Edema": 1.0})
    with pytest.raises(DataError, match="knows none of the 5 sentences"):
        built({"MIMIC": tree}, reports=Reports(reports=root, labeller=str(path)))
    with pytest.raises(DataError, match="holds no report of the 3 studies"):
        built({"MIMIC": tree}, reports=Reports(reports=tree / "files", labeller=str(path)))


@given(st.text(max_size=40))
def test_the_plain_form_is_stable(text: str) -> None:
    assert plain(plain(text)) == plain(text) or "İ" in text
