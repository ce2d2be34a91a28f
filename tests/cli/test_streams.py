"""Standard streams that are closed, full, left or narrow: no work is lost, and no exit code means what it does not."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrbench.errors import EXIT_CODES

UNIX = pytest.mark.skipif(os.name == "nt", reason="file descriptors of a POSIX shell")
Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """The program in a shell of its own; `{cx}` is the program."""

    def run(line: str, program: str = "from cxrbench.cli.main import main; main()", **env: str) -> object:
        (tmp_path / "cx.py").write_text(program)
        return subprocess.run(
            ["bash", "-c", line.replace("{cx}", f"{sys.executable} {tmp_path / 'cx.py'}")],
            capture_output=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "CXRBENCH_CACHE": str(tmp_path / "cache"), **env},
        )

    return run  # type: ignore[return-value]


@UNIX
def test_a_reader_that_leaves_changes_no_exit_code(shell: Shell) -> None:
    done = shell("{cx} models | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}")
    assert done.stdout == b"0\n" and done.stderr == b""
    refused = shell("{cx} info nothing 2>&1 >/dev/null | head -c 0; echo ${PIPESTATUS[0]}")
    assert refused.stdout == b"2\n"


@UNIX
@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_end_no_work(closed: str, shell: Shell, tmp_path: Path) -> None:
    """Nor does a file that is written get the number of a closed stream, and what is printed to it."""
    done = shell("{cx} data phantom --task rsna --out data --images-per-class 2 " + closed + "; echo $?; ls data")
    assert done.stdout.endswith(b"0\nrsna-pneumonia-detection-challenge\n")
    assert b"Traceback" not in done.stderr


@UNIX
def test_a_run_whose_reader_leaves_and_whose_stderr_is_closed_is_measured(shell: Shell, tmp_path: Path) -> None:
    shell("{cx} data phantom --task rsna --out data")
    words = "run -m image_statistics -t rsna --variant phantom -k 1 -g all --data-root data --device cpu"
    done = shell("{cx} " + words + " 2>&- | head -c 0; echo ${PIPESTATUS[0]}")
    assert done.stdout == b"0\n"
    assert len(list((tmp_path / "results" / "records").rglob("*.json"))) == 1


NOISY = """
import os
from cxrbench.cli import main
@main.app.command("noisy")
def noisy() -> None:
    with open("file", "wb") as file:
        file.write(b"ours")
        file.flush()
        for descriptor in (1, 2):
            os.write(descriptor, b"a library's remark")
main.main()
"""


@UNIX
def test_no_file_of_ours_gets_the_number_of_a_closed_stream(shell: Shell, tmp_path: Path) -> None:
    shell("{cx} noisy >&- 2>&-", NOISY)
    assert (tmp_path / "file").read_bytes() == b"ours"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_told_and_counted(shell: Shell) -> None:
    done = shell("{cx} models >/dev/full")
    assert done.returncode == 5
    assert b"cxrbench: stdout: No space left on device" in done.stderr


@UNIX
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("streams", [">/dev/full 2>/dev/full", ">/dev/full 2>&-", ">/dev/full 2>&1"])
def test_a_command_that_cannot_even_say_so_is_5(streams: str, shell: Shell) -> None:
    assert shell("{cx} models " + streams).returncode == 5


PRINTING = """
import sys
from cxrbench.cli import main
@main.app.command("shout")
def shout() -> None:
    main.warn("caf\\udce9 \\u2013 f\\xfcr \\u65e5")
    from cxrbench.cli.echo import say
    say("caf\\udce9 \\u2013 f\\xfcr \\u65e5")
main.main()
"""


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "caf\\udce9 – für 日".encode()),
        ("latin-1", b"caf\\udce9 \\u2013 f\xfcr \\u65e5"),
        ("ascii", "caf\\udce9 – für 日".encode()),  # Typer takes it for a slip of the environment, and prints UTF-8
    ],
)
def test_what_an_encoding_lacks_is_escaped(encoding: str, shown: bytes, shell: Shell) -> None:
    """Names of files that are no Unicode, too."""
    done = shell("{cx} shout", PRINTING, PYTHONIOENCODING=encoding, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0
    assert (done.stdout, done.stderr) == (shown + b"\n", shown + b"\n")


@pytest.mark.parametrize("verb", [["models"], ["tasks"], ["info", "rsna"], ["--help"]])
def test_lists_print_in_a_narrow_encoding(verb: list[str], shell: Shell) -> None:
    done = shell("{cx} " + " ".join(verb), PYTHONIOENCODING="ascii", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout


FAILING = """
from cxrbench.cli import main
@main.app.command("fail")
def fail() -> None:
    raise {error}
main.main()
"""


@pytest.mark.parametrize(
    "error",
    [
        "KeyError('token')",
        "EOFError('Ran out of input')",
        "BrokenPipeError(32, 'Broken pipe')",
        "MemoryError()",
        "RecursionError()",
        "StopIteration()",
        "AssertionError()",
        "SystemExit('some library stops')",
        "SystemExit(0)",
        "SystemExit()",
        "BaseException('a panic')",
    ],
)
def test_a_bug_is_5_and_its_traceback_is_in_a_log(error: str, shell: Shell, tmp_path: Path) -> None:
    """1 would mean that results changed."""
    done = shell("{cx} fail", FAILING.replace("{error}", error))
    assert done.returncode == 5 and b"Traceback" not in done.stderr
    (log,) = (tmp_path / "cache" / "logs").iterdir()
    assert str(log).encode() in done.stderr
    assert error.partition("(")[0] in log.read_text()


def test_ctrl_c_keeps_its_code(shell: Shell) -> None:
    done = shell("{cx} fail", FAILING.replace("{error}", "KeyboardInterrupt()"))
    assert done.returncode == 130 in EXIT_CODES and b"finished work is kept" in done.stderr
