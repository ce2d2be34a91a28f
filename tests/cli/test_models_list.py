"""`cxrbench models`: a row of facts a model, each derived from what ships."""

import csv
import io
import json
from itertools import pairwise

import pytest
from typer.testing import CliRunner

import cxrbench
from cxrbench.cli.main import app
from cxrbench.models.certificate import certificate_for
from cxrbench.models.glance import licence_class, model_lines
from cxrbench.specs import catalog

OTHER_FORMATS = ("wide", "csv", "json", "markdown")


def listed(*words: str) -> str:
    found = CliRunner().invoke(app, ["models", *words])
    assert found.exit_code == 0, found.output
    return found.stdout


def test_every_shipped_card_has_a_family_and_all_but_controls_a_year() -> None:
    cards = [catalog.load_card(name) for name in catalog.card_files()]
    assert [card.name for card in cards if not card.family or (card.year is None) != card.control] == []


def test_the_list_fits_80_columns_and_groups_families() -> None:
    rows = listed().splitlines()
    assert rows[0].split() == ["name", "family", "year", "px", "dim", "sides", "terms", "weights", "code"]
    assert max(map(len, rows)) <= 80 and len(rows) == len(model_lines()) + 1
    assert "medclip_vit              MedCLIP" in listed() and rows[-1].startswith("sat ")
    families = [line.family for line in model_lines() if line.available]
    assert len(set(families)) == 1 + sum(a != b for a, b in pairwise(families))


@pytest.mark.parametrize("form", OTHER_FORMATS)
def test_other_formats_hold_every_column(form: str) -> None:
    told = listed("--format", form)
    frame = cxrbench.list_models().to_dataframe()
    assert all(name in told for name in frame.name) and "joint 512" in told
    rows = {"csv": lambda: list(csv.DictReader(io.StringIO(told))), "json": lambda: json.loads(told)}
    for row, name in zip(rows[form]() if form in rows else (), frame.name, strict=form in rows):
        assert row["name"] == name and set(row) == set(frame.columns)


def test_facts_are_those_of_the_cards_and_certificates() -> None:
    lines = {line.name: line for line in model_lines()}
    assert lines["dlilp_cm"].sides == "both" and lines["rad_dino"].sides == "" and lines["unimodal_c"].sides == "label"
    assert lines["biovil"].image_size == "480" and lines["gloria"].weights == "by-hand"
    for name in ("gloria", "rad_dino", "xrv_densenet121_pc"):
        assert bool(lines[name].checked) == (certificate_for(catalog.load_card(name)) is not None)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ("MIT", "open"),
        ("CC-BY-NC-4.0", "research"),
        ("CC BY-NC 4.0 by the README", "research"),
        ("FAIR Noncommercial Research License", "research"),
        ("Apache-2.0 for the code; nothing is said about the weights", "unclear"),
        ("none stated: no licence file", "unclear"),
        ("DINOv3 licence, to be accepted at its repository", "sign"),
        ("Microsoft Research licence (MSRLA)", "own"),
    ],
)
def test_the_class_of_a_licence(terms: str, expected: str) -> None:
    assert licence_class(terms) == expected
