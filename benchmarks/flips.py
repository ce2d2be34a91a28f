"""Every kind of file that a run writes, with 200 single bits flipped and 50 cuts: what its reader makes of it.

    python -m benchmarks.flips [--flips 200] [--cuts 50] [--kind NAME ...]

Exit code 1 if anything was believed that is not what was written, left out without a word, ended in a traceback, or
was waited for. Kinds are entries in `tests/flips.py` and, for pre-training, `tests/flips_pretrain.py`.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    sys.path.insert(0, str(ROOT / "tests"))
    import flips_pretrain  # type: ignore[import-not-found]
    from flips import KINDS, campaign  # type: ignore[import-not-found]

    kinds = (*KINDS, *flips_pretrain.KINDS)
    names = [kind.name for kind in kinds]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--kind", action="append", choices=names)
    asked = parser.parse_args()
    bad = list[str]()
    for kind in (kind for kind in kinds if kind.name in (asked.kind or names)):
        with TemporaryDirectory() as folder:
            counts, wrong = campaign(kind, Path(folder), asked.flips, asked.cuts)
        print(f"{kind.name:28} " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())), flush=True)
        bad += wrong
    print("\n".join([*bad, f"{len(bad)} wrong"]))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
