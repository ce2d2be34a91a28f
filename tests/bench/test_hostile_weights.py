"""Runs with hostile or broken weights: refused in their own words, nothing executed, no record, no embedding."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lab import Lab, records_of, write_card
from made_hostile import code, foreign, huge_header, truncated

from cxrbench.errors import CxrBenchError

pytestmark = pytest.mark.slow


FILES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "code": (code, "nothing was run"),
    "foreign class": (foreign, "omegaconf.listconfig.ListConfig"),
    "truncated": (truncated, "truncated or damaged"),
    "huge header": (huge_header, "10737418240"),
    "web page": (lambda path, _: path.write_bytes(b"<html>Sign in</html>"), "a web page, not a checkpoint"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_run_refuses_the_file_and_records_nothing(name: str, lab: Lab, tmp_path: Path) -> None:
    make, says = FILES[name]
    models, proof = tmp_path / "models", tmp_path / "proof"
    models.mkdir()
    make(models / "unimodal.pth", proof)
    card = write_card(models, "hostile", "unimodal")
    try:
        report = lab.run(tmp_path, [], ["covid"], models=[str(card)], shots=(1,))
        told, codes = "\n".join(map(str, report.problems)), {problem.exit_code for problem in report.problems}
    except CxrBenchError as error:
        told, codes = str(error), {error.exit_code}
    assert says in told
    assert codes == {4}
    assert not proof.exists()
    assert not records_of(tmp_path)
    assert sorted(path.name for path in models.iterdir()) == ["hostile.toml", "unimodal.pth"]
