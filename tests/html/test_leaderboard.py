"""`cxrbench report --site`: pages whose links hold, with made numbers apart, and the records beside them."""

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

import html5lib
import pytest
from made_board import write_board
from made_results import scores, write_result
from typer.testing import CliRunner, Result

from cxrbench.cli.main import app
from cxrbench.errors import CxrBenchError
from cxrbench.records.integrity import faults, found_results, place_of
from cxrbench.records.record import Record
from cxrbench.reports.site.write import CONTENTS

MODELS = ("clip_cm", "gloria", "medclip")
HOSTILE = "Heron <script>alert(1)</script>"


def cxrbench(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


def said(done: Result) -> str:
    return f"{done.output}{done.exception or ''}"


def code(done: Result) -> int:
    return done.exception.exit_code if isinstance(done.exception, CxrBenchError) else done.exit_code


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    write_board(out, MODELS, ("rsna", "siim"), shots=(1, 16), prompts=("names",))
    write_board(out, ("image_statistics",), ("rsna",), shots=(16,), prompts=(), best=0.1, model__control=True)
    write_board(out, ("heron",), ("rsna",), shots=(16,), prompts=(), model__title=HOSTILE)
    write_board(out, ("medclip",), ("rsna",), shots=(16,), prompts=(), data__synthetic=True)
    return out


@pytest.fixture(scope="module")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "site"
    done = cxrbench("report", "--out", results, "--site", folder, "--workers", 1)
    assert done.exit_code == 0, said(done)
    assert "8 pages, 21 records" in done.output
    return folder


@pytest.fixture(scope="module")
def texts(site: Path) -> Mapping[str, str]:
    return {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}


def attributes(text: str, name: str) -> Iterator[str]:
    for element in html5lib.parse(text).iter():
        if name in element.attrib:
            yield element.attrib[name]


def of_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def only(results: Path, **wanted: object) -> Record:
    [found] = [
        record
        for record in found_results(results).records
        if (record.model.name, record.data.task, record.protocol.shots, record.synthetic) == tuple(wanted.values())
    ]
    return found


def test_every_link_leads_to_a_file_and_to_a_place_in_it(site: Path, texts: Mapping[str, str]) -> None:
    places = {(site / name).resolve(): set(attributes(text, "id")) for name, text in texts.items()}
    led = 0
    for name, text in texts.items():
        for link in attributes(text, "href"):
            found = urlsplit(link)
            if found.scheme:
                assert found.scheme in ("data", "https"), link
                continue
            target = (site / name).parent / unquote(found.path) if found.path else site / name
            assert target.is_file(), (name, link)
            assert not found.fragment or found.fragment in places[target.resolve()], (name, link)
            led += 1
    assert led > 100


def test_pages_name_nothing_that_a_browser_would_fetch(texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        [policy, *_] = (value for value in attributes(text, "content") if "-src" in value)
        assert policy.startswith("default-src 'none'; ")
        assert not list(attributes(text, "src")), name
        assert set(re.findall(r"<link rel=\"(\w+)\"", text)) == {"icon"}
        assert "url(" not in text and "@import" not in text


def test_a_board_has_the_number_its_interval_and_the_way_to_its_cell(results: Path, texts: Mapping[str, str]) -> None:
    record = only(results, model="gloria", task="siim", shots=16, synthetic=False)
    value = f"{100 * record.summary['balanced_accuracy']['mean']:.2f}"
    link = f'<a href="models/gloria.html#r{record.id}">{value}</a>'
    [around] = [part for part in texts["index.html"].split("<td>") if link in part]
    assert re.search(r"<small>\d+\.\d\d to \d+\.\d\d</small>", around)
    page = texts["models/gloria.html"]
    own = page.partition(f'<article id="r{record.id}">')[2].partition("</article>")[0]
    assert f"<b>{value}</b>" in own and f'href="../{place_of(record)}"' in own
    told = (record.data.partition_digest, record.preprocessing.digest, record.variant_digest, record.code.sources)
    assert all(digest[:12] in own and digest in page for digest in told)
    assert record.model.weights_sha256 in page and "Apache-2.0" in page


def test_made_numbers_stand_on_pages_of_their_own(results: Path, texts: Mapping[str, str]) -> None:
    made = only(results, model="medclip", task="rsna", shots=16, synthetic=True)
    assert {name for name, text in texts.items() if made.id in text} == {"synthetic.html", "synthetic/medclip.html"}
    for name, text in texts.items():
        assert ("Not results" in text) == name.startswith("synthetic"), name


def test_controls_and_the_unknown_are_told_as_such(texts: Mapping[str, str]) -> None:
    board = texts["index.html"].partition("Linear probe, K = 16")[2].partition("</table>")[0]
    controls = board.partition('<tbody class="controls">')[2]
    assert "image_statistics" in controls and "gloria" not in controls
    assert "not one of this installation" in texts["models/heron.html"]
    assert not any("<script>alert" in text for text in texts.values())
    assert "Heron &lt;script&gt;" in texts["index.html"]


def test_a_board_has_places_and_a_mean_over_its_own_tasks_where_there_are_any(texts: Mapping[str, str]) -> None:
    def heads(name: str) -> list[list[str]]:
        tables = re.findall(r'<table class="sortable board">.*?</table>', texts[name], re.DOTALL)
        return [re.findall(r'<th scope="col"[^>]*>(\w+)', table) for table in tables]

    assert heads("index.html") == [["Model", "Place", "Mean", "SIIM", "RSNA"]] * 3
    assert heads("synthetic.html") == [["Model", "RSNA"]] and "No places: " in texts["synthetic.html"]


def test_the_same_records_give_the_same_files_and_nothing_older_stays(results: Path, site: Path) -> None:
    before = of_files(site)
    (site / "CNAME").write_text("example.org")
    done = cxrbench("report", "--out", results, "--site", site, "-m", "gloria", "--workers", 1)
    assert done.exit_code == 0, said(done)
    fewer = of_files(site)
    assert {name.split("/")[0] for name in fewer} == {"CNAME", CONTENTS, "index.html", "models", "records"}
    assert not (site / "synthetic").exists() and not [name for name in fewer if "medclip" in name]
    assert cxrbench("report", "--out", results, "--site", site, "--workers", 1).exit_code == 0
    (site / "CNAME").unlink()
    assert of_files(site) == before


def test_predictions_are_published_when_asked_for_and_then_the_site_holds_by_itself(
    results: Path, site: Path, tmp_path: Path
) -> None:
    assert not list(site.rglob("*.parquet"))
    words = ("report", "--out", results, "-m", "gloria", "-t", "rsna", "--workers", 1, "--site", tmp_path / "whole")
    assert cxrbench(*words, "--predictions").exit_code == 0
    found = found_results(tmp_path / "whole")
    assert len(found.records) == 3 and not any(faults(tmp_path / "whole", record) for record in found.records)
    assert code(cxrbench("report", "--out", tmp_path / "whole", "--site", tmp_path / "whole")) == 2
    assert cxrbench(*words).exit_code == 0
    assert not list((tmp_path / "whole").rglob("*.parquet"))


def test_a_folder_with_files_of_others_is_left_alone(results: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = cxrbench("report", "--out", results, "-m", "gloria", "-t", "rsna", "--site", tmp_path)
    assert code(done) == 2 and "notes.txt" in said(done)
    assert of_files(tmp_path) == {"notes.txt": b"mine"}
    assert code(cxrbench("report", "--out", results, "--site", results)) == 2


@pytest.mark.parametrize("words", [["--predictions"], ["--site", "s", "--audit", "a.json"]])
def test_options_that_would_do_nothing_are_refused(words: list[str], results: Path) -> None:
    assert code(cxrbench("report", "--out", results, *words)) == 2


def test_title_and_authors_stand_on_the_first_page(results: Path, texts: Mapping[str, str], tmp_path: Path) -> None:
    assert "<h1>Leaderboard of chest X-ray encoders</h1>" in texts["index.html"]
    words = ("report", "--out", results, "-m", "gloria", "-t", "rsna", "--site", tmp_path / "s")
    assert code(cxrbench(*words, "--title", "Our <lab>", "--author", "A", "--author", "B")) == 0
    text = (tmp_path / "s" / "index.html").read_text()
    assert "<h1>Our &lt;lab&gt;</h1>" in text and "<p>A, B</p>" in text


def test_without_a_measured_record_the_first_page_says_so(tmp_path: Path) -> None:
    write_board(tmp_path / "r", ("medclip",), ("rsna",), shots=(16,), prompts=(), model__synthetic=True)
    assert cxrbench("report", "--out", tmp_path / "r", "--site", tmp_path / "s").exit_code == 0
    text = (tmp_path / "s" / "index.html").read_text()
    assert "no measured record" in text and "<table" not in text and 'href="synthetic.html"' in text


def test_scores_that_are_no_probabilities_cost_a_cell_its_calibration_and_end_no_page(tmp_path: Path) -> None:
    write_result(tmp_path / "r", scores(rows=40, errors=6), protocol__scores="probabilities")
    done = cxrbench("report", "--out", tmp_path / "r", "--site", tmp_path / "s")
    assert done.exit_code == 0, said(done)
    assert "85.00" in (tmp_path / "s" / "index.html").read_text()


def test_its_colours_are_those_of_the_report_whose_contrast_is_tested() -> None:
    def palettes(package: str, name: str) -> list[dict[str, str]]:
        text = resources.files(package).joinpath("templates", name).read_text(encoding="utf-8")
        blocks = re.findall(r":root[^{]*\{(.*?)\}", text, re.DOTALL)[:2]
        return [dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in blocks]

    for known, own in zip(
        palettes("cxrbench.reports.html", "report.css"), palettes("cxrbench.reports.site", "site.css"), strict=True
    ):
        assert own.pop("bar") == known["s0"] and len(own) > 5
        assert own.items() <= known.items()
