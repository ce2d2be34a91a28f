"""The report as a document: what stands in it, and that nothing a record says can break out of it."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import pytest
from made_board import write_board
from made_predictions import restated
from typer.testing import CliRunner

from cxrbench.analysis.against_paper import Finding
from cxrbench.cli.main import app
from cxrbench.errors import DataError
from cxrbench.records.integrity import found_results, read_results
from cxrbench.reports.html.chapters import ReportWork, nameless
from cxrbench.reports.html.page import report
from cxrbench.reports.html.render import render
from cxrbench.specs import catalog
from cxrbench.store.sealed import with_checksum

MODELS = ("clip_cm", "dlilp_cm", "gloria", "medclip")
TASKS = ("rsna", "covid")
HEADS = ["Model", "Place", "Mean", "RSNA", "COVID"]
SEXES = {f"image{n:04d}": "FM"[n % 2] for n in range(200)}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def page(out: Path, **more: Any) -> str:
    return render(
        report(ReportWork(out, these_draws=more.get("these_draws", False)), found_results(out), more.get("audited"))
    )


def parsed(text: str) -> Element:
    """The tree as a browser builds it; raises for any error in the markup."""
    root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    for part in root.iter():
        part.tag = str(part.tag).removeprefix("{http://www.w3.org/2000/svg}")
    return root


def texts(root: Element, path: str) -> list[str]:
    return [" ".join("".join(found.itertext()).split()) for found in root.iterfind(path)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_board(folder, MODELS, TASKS)
    return folder


@pytest.fixture(scope="module")
def text(out: Path) -> str:
    return page(out)


@pytest.fixture(scope="module")
def root(text: str) -> Element:
    return parsed(text)


def board_of(root: Element, setting: str) -> Element:
    return next(
        part
        for part in root.iterfind(".//section[@class='setting']")
        if (part.findtext("h4") or "").startswith(setting)
    )


def test_every_model_and_task_of_a_setting_is_a_field_with_its_interval(root: Element) -> None:
    table = board_of(root, "Linear probe, K = 16").find(".//table")
    assert table is not None
    short = "no patient ids: too short where patients have several images"
    covers = f" over other test images, these training images only; {short}"
    assert [head.replace(covers, "") for head in texts(table, "thead/tr/th")] == HEADS
    assert all(head.endswith(covers) for head in texts(table, "thead/tr/th")[2:])
    rows = texts(table, "tbody/tr")
    assert len(rows) == len(MODELS)
    assert all(re.search(r"\d\d\.\d\d to \d\d\.\d\d", row) for row in rows)
    means = [float(texts(row, "td")[1].split()[0].rstrip("†")) for row in table.iterfind("tbody/tr")]
    assert means == sorted(means, reverse=True)


def test_numbers_are_those_of_the_records(root: Element, out: Path) -> None:
    fields = {link.get("href"): link.text for link in root.iterfind(".//table[@class='sortable board']//a")}
    records = read_results(out, out).records
    assert len(fields) == len(records)
    for record in records:
        assert fields[f"#r{record.id}"] == f"{100 * record.summary['balanced_accuracy']['mean']:.2f}"


def test_every_link_leads_somewhere_and_every_id_is_one(root: Element) -> None:
    ids = [part.get("id") for part in root.iter() if part.get("id")]
    assert len(set(ids)) == len(ids)
    targets = {part.get("href") for part in root.iter() if part.tag in ("a", "use") and part.get("href") != "#main"}
    assert targets
    assert {target.removeprefix("#") for target in targets if target} <= set(ids)


def test_tables_have_captions_or_names_and_scoped_headers(root: Element) -> None:
    heads = list(root.iterfind(".//th"))
    assert heads
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in heads)
    boxes = [part for part in root.iter("div") if part.get("class") == "box"]
    assert len(boxes) == len(list(root.iter("table")))
    assert all(part.get("aria-label") and part.get("tabindex") == "0" for part in boxes)


def test_contaminated_cells_bear_the_dagger(root: Element) -> None:
    table = board_of(root, "Linear probe, K = 16").find(".//table")
    assert table is not None
    task = catalog.load_task("rsna")
    from cxrbench.records.validity import contaminated

    expected = {m for m in MODELS if contaminated(catalog.load_card(m).pretraining, task)}
    rows = {(row.get("data-model") or "").split()[0]: row for row in table.iterfind("tbody/tr")}
    marked = {name for name, row in rows.items() if "†" in texts(row, "td")[2]}
    assert marked == expected


def test_paper_tables_give_verdicts_beside_what_is_printed(root: Element) -> None:
    table = next(part for part in root.iter("table") if part.get("class") == "paper")
    fields = texts(table, "tbody/tr/td")
    assert any(re.search(r"paper \d+\.\d+, [+-]\d+\.\d+ ?(agrees|differs|cannot tell), ", field) for field in fields)


def test_each_cell_tells_its_sources_and_the_command(root: Element, out: Path) -> None:
    cells = {part.get("id"): part for part in root.iter("div") if part.get("class") == "inside"}
    record = next(r for r in read_results(out, out).records if r.protocol.shots == 4)
    told = " ".join("".join(cells[f"r{record.id}"].itertext()).split())
    assert f"cxrbench run --model {record.model.name} --task {record.data.task}" in told
    assert "--shots 4 --group all --variant paper-code" in told
    everything = "".join(root.itertext())
    for value in (
        record.model.weights_sha256,
        record.data.partition_digest,
        record.preprocessing.digest,
        record.variant_digest,
        record.code.sources,
    ):
        assert value in everything


def test_confusion_is_shown_for_the_most_shots_and_for_one_prompt_set(root: Element, out: Path) -> None:
    cells = {part.get("id"): part for part in root.iter("div") if part.get("class") == "inside"}
    for record in read_results(out, out).records:
        table = cells[f"r{record.id}"].find(".//table[@class='confusion']")
        prompts = None if record.prompts is None else record.prompts.set
        assert (table is not None) == (record.protocol.shots == 16 or prompts == "description")
        if table is not None:
            counts = [[int(n) for n in (row.findall("td")[3].text or "").split()] for row in table.iterfind("tbody/tr")]
            assert counts == [list(row) for row in record.folds[0].metrics["confusion"]]


def test_heat_maps_hold_recall_and_auroc_of_every_class(root: Element, out: Path) -> None:
    record = next(r for r in read_results(out, out).records if r.protocol.shots == 16 and r.data.task == "covid")
    maps = [part for part in root.iter("table") if "heat" in (part.get("class") or "")]
    for name in ("recall", "AUROC"):
        table = next(m for m in maps if (m.findtext("caption") or "").startswith(f"COVID: {name}"))
        assert texts(table, "thead/tr/th")[1:] == list(record.data.labels)
    recall = next(m for m in maps if (m.findtext("caption") or "").startswith("COVID: recall"))
    row = next(r for r in recall.iterfind("tbody/tr") if (r.get("data-model") or "").startswith(record.model.name))
    assert texts(row, "td") == [f"{100 * value:.1f}" for value in record.folds[0].metrics["recall"]]


def test_prompt_spread_gives_worst_and_best(root: Element, out: Path) -> None:
    tables = {t.findtext("caption") or "": t for t in root.iter("table")}
    singles = next(table for caption, table in tables.items() if caption.startswith("Over single prompts"))
    record = next(r for r in read_results(out, out).records if r.single_prompts)
    row = next(r for r in singles.iterfind("tbody/tr") if (r.get("data-model") or "").startswith(record.model.name))
    told = texts(row, "td")
    values = [value for value in record.single_prompts if value is not None]
    assert told[7:9] == [f"{100 * min(values):.2f}", f"{100 * max(values):.2f}"]


def test_curves_have_a_point_for_each_number_of_shots(root: Element) -> None:
    panels = [part for part in root.iter("svg") if part.get("class") == "panel"]
    assert len(panels) == len(TASKS) + 1
    for panel in panels:
        curves = [group for group in panel.iter("g") if group.get("data-model")]
        assert len(curves) == len(MODELS)
        assert all(len(list(curve.iter("use"))) == 3 for curve in curves)


def test_equal_records_give_equal_bytes(out: Path, text: str) -> None:
    assert page(out) == text


def test_nothing_comes_from_elsewhere(text: str, root: Element) -> None:
    addresses = [part.get(name) for part in root.iter() for name in ("src", "href") if part.get(name)]
    assert addresses
    assert all(address and address.startswith(("#", "data:,")) for address in addresses)
    assert "@import" not in text
    assert "url(" not in text
    assert not [part for part in root.iter() if part.get("style") or any(k.startswith("on") for k in part.attrib)]


def test_the_policy_allows_this_style_and_this_script_alone(root: Element) -> None:
    policy = next(m.get("content") for m in root.iter("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (found,) = root.iter(tag)
        own = base64.b64encode(hashlib.sha256((found.text or "").encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{own}'" in policy


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    write_board(tmp_path, ("clip_cm", "gloria"), ("rsna",), shots=(16,), prompts=("names",), model__title=HOSTILE)
    write_board(tmp_path, ("medclip",), ("rsna",), shots=(16,), prompts=(), model__weights_file=HOSTILE)
    root = parsed(page(tmp_path))
    assert len(list(root.iter("script"))) == 1
    assert not list(root.iter("img"))
    assert not [part for part in root.iter() if any(name.startswith("on") for name in part.attrib)]
    assert HOSTILE in "".join(root.itertext())


def test_made_records_stand_apart_under_a_banner(tmp_path: Path) -> None:
    write_board(tmp_path, ("clip_cm", "gloria"), ("rsna",), shots=(16,), prompts=())
    made = write_board(tmp_path, ("medclip",), ("rsna",), shots=(16,), prompts=(), data__synthetic=True)
    root = parsed(page(tmp_path))
    chapters = [part for part in root.iter("section") if "chapter" in (part.get("class") or "").split()]
    assert texts(root, ".//h2")[:2] == ["Measured: variant paper-code", "Synthetic, no results: variant paper-code"]
    measured, other = ("".join(part.itertext()) for part in chapters)
    assert "medclip" not in measured.replace("MedCLIP", "")
    assert "Not results. The images are phantoms, drawn by a program" in other
    assert "weights are synthetic" not in other
    assert made[0].id in other
    assert all(
        "Made, no result." in (t.findtext("caption/strong") or "")
        for t in chapters[1].iterfind(".//table[@class='sortable board']")
    )


def test_variants_never_share_a_table(tmp_path: Path) -> None:
    write_board(tmp_path, ("clip_cm",), ("rsna",), shots=(16,), prompts=())
    write_board(tmp_path, ("gloria",), ("rsna",), shots=(16,), prompts=(), variant="cxrbench-v1")
    root = parsed(page(tmp_path))
    for table in root.iterfind(".//table[@class='sortable board']"):
        assert len(list(table.iterfind("tbody/tr"))) == 1


def test_changed_predictions_are_left_out_and_told_of(tmp_path: Path) -> None:
    kept, changed = write_board(tmp_path, ("clip_cm", "gloria"), ("rsna",), shots=(16,), prompts=())
    path = tmp_path / "records" / "rsna" / "gloria" / changed.predictions
    path.write_bytes(path.read_bytes()[:-1])
    root = parsed(page(tmp_path))
    told = "".join(root.itertext())
    assert f"#r{changed.id}" not in {a.get("href") for a in root.iter("a")}
    assert f"#r{kept.id}" in {a.get("href") for a in root.iter("a")}
    assert changed.id in told
    assert str(tmp_path) not in told


def test_without_a_sound_record_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no record to report"):
        page(tmp_path)


def test_shuffled_labels_of_a_model_that_is_no_control_are_counted_and_not_shown(tmp_path: Path) -> None:
    write_board(tmp_path, ("clip_cm",), ("rsna",), shots=(16,), prompts=())
    write_board(tmp_path, ("gloria",), ("rsna",), shots=(16,), prompts=(), protocol__labels="shuffled")
    told = " ".join("".join(parsed(page(tmp_path)).itertext()).split())
    assert "1 record fitted to shuffled labels, of models that are no negative controls" in told
    assert "variant paper-code: 1 model, 1 cell." in told


@pytest.fixture(scope="module")
def beside_controls(tmp_path_factory: pytest.TempPathFactory) -> Element:
    """Two models below two negative controls that do better: no ranking, and the means alone would put these first."""
    folder = tmp_path_factory.mktemp("controls")
    write_board(folder, ("clip_cm", "gloria"), TASKS, shots=(4, 16))
    for name, labels in (("class_prior", "true"), ("shuffled_labels", "shuffled")):
        how: dict[str, Any] = {"model__control": True, "protocol__labels": labels}
        write_board(folder, (name,), TASKS, shots=(4, 16), prompts=(), best=4.0, **how)
    return parsed(page(folder))


def labels_of(task: str) -> tuple[str, ...]:
    return catalog.load_task(task).groups["all"]


def test_negative_controls_stand_below_the_models_in_every_table(beside_controls: Element) -> None:
    tables = [t for t in beside_controls.iter("table") if t.find("tbody[@class='controls']") is not None]
    kinds = {(t.get("class") or "").split()[0] for t in tables}
    assert kinds == {"sortable", "heat"}
    for table in tables:
        models, controls = table.findall("tbody")
        assert {(row.get("data-model") or "").split()[0] for row in models} == {"clip_cm", "gloria"}
        assert (controls.findtext("tr/th/span") or "").startswith("Negative controls")
        assert {row.get("data-model") for row in controls} - {None} == {
            "class_prior",
            "shuffled_labels",
        }
    told = " ".join("".join(beside_controls.itertext()).split())
    assert "2 models, 2 negative controls, 24 cells" in told
    assert "No places: they need three models, negative controls apart; measured: 2." in told


def test_negative_controls_follow_the_sections_of_the_paper_and_are_in_no_curve(beside_controls: Element) -> None:
    paper = next(t for t in beside_controls.iter("table") if t.get("class") == "paper")
    sections = [(body.findtext("tr/th[@scope='rowgroup']/span") or "").strip() for body in paper.iterfind("tbody")]
    assert sections[-1] == "(b) linear probing, K = 16: negative controls, which must do badly"
    own = paper.findall("tbody")[-1]
    assert [texts(row, "th")[0] for row in own][1:] == [
        "Control: class prior class_prior",
        "Control: shuffled labels shuffled_labels",
    ]
    curves = {g.get("data-model") for panel in beside_controls.iter("svg") for g in panel.iter("g")} - {None}
    assert {str(name).split()[0] for name in curves} == {"clip_cm", "gloria"}


def test_chance_is_one_by_the_classes(root: Element) -> None:
    table = board_of(root, "Linear probe, K = 16").find(".//table")
    assert table is not None
    told = texts(table, "tfoot/tr/td")
    counts = [len(labels_of(task)) for task in TASKS]
    shares = [100 / n for n in counts]
    assert told[2:] == [f"{share:.2f}{n} classes" for share, n in zip(shares, counts, strict=True)]
    assert told[1] == f"{sum(shares) / len(shares):.2f}"


def test_every_table_of_models_bears_the_dagger(tmp_path: Path) -> None:
    write_board(tmp_path, MODELS, TASKS, model__pretraining="NIH", about={"sex": SEXES})
    for table in parsed(page(tmp_path)).iter("table"):
        kind, body = table.get("class") or "", table.find("tbody")
        if kind in ("confusion", "sources") or "finding" in (table.findtext("caption") or ""):
            continue
        assert body is not None
        models = [row for row in table.iter("tr") if (row.get("data-model") or "").split(" ")[0] in MODELS]
        assert models
        for row in models:
            assert "†" in "".join(row.itertext()), table.findtext("caption")


def test_a_hostile_record_id_stays_inside_its_quotes(tmp_path: Path) -> None:
    (record,) = write_board(tmp_path, ("clip_cm",), ("rsna",), shots=(16,), prompts=())
    hostile = "x onclick=alert(1) y"
    restated(tmp_path, record, id=hostile, predictions=f"{hostile}.parquet")
    root = parsed(page(tmp_path))
    assert not [part for part in root.iter() if any(name.startswith("on") for name in part.attrib)]
    assert f"r{hostile}" in {part.get("id") for part in root.iter("div")}


def test_audit_findings_that_say_the_same_are_told_once(tmp_path: Path) -> None:
    write_board(tmp_path, MODELS, TASKS, shots=(16,), prompts=())
    found = [Finding("prompts", f"task {n}", "names: only a, not b", 1, 2) for n in range(3)]
    root = parsed(render(report(ReportWork(tmp_path), found_results(tmp_path), found)))
    audit = next(part for part in root.iter("section") if part.get("id") == "audit")
    assert texts(audit, ".//tbody/tr/td")[0] == "task 0; task 1; task 2"


@pytest.fixture
def program(out: Path, tmp_path: Path) -> Iterator[tuple[CliRunner, Path]]:
    yield CliRunner(), tmp_path / "report.html"


def test_the_verb_writes_the_file_with_the_audit(program: tuple[CliRunner, Path], out: Path, tmp_path: Path) -> None:
    runner, to = program
    findings = tmp_path / "audit.json"
    body = {"kind": "shared patients", "scope": "rsna, split x", "text": "2 of 4 <b>images</b>", "count": 2, "total": 4}
    findings.write_text(json.dumps(with_checksum({"findings": [{**body, "source": "", "share": 0.5}]})))
    words = ["report", "--out", str(out), "--to", str(to), "--audit", str(findings)]
    done = runner.invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    audit = next(part for part in parsed(to.read_text()).iter("section") if part.get("id") == "audit")
    assert "2 of 4 <b>images</b>" in "".join(audit.itertext())
    assert "50.0" in "".join(audit.itertext())


@pytest.mark.parametrize("out", [".", "out", "/data/results"])
def test_complaints_name_no_folder_and_keep_their_full_stops(out: str) -> None:
    path = Path(out) / "records" / "rsna" / "a.parquet"
    (told,) = nameless(ReportWork(Path(out)), (f"{path}: is without a digest. Run again.",))
    assert told.endswith("records/rsna/a.parquet: is without a digest. Run again.")
    assert "/data" not in told
