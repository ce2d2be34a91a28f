"""A diagnosis as lines for people and as JSON for programs."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from cxrbench.checks.doctor import Diagnosis, OwnModel
from cxrbench.checks.proof import Proof
from cxrbench.testing import AdapterReport


def as_json(found: Diagnosis) -> str:
    """Everything, with keys as the dataclasses name them; what is not finite is null."""
    told = asdict(found)
    if found.own is not None:
        told["own"]["problems"] = [{"kind": type(p).__name__, "text": str(p)} for p in found.own.problems]
    return json.dumps(_plain(told), indent=1, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def lines(found: Diagnosis) -> Iterator[str]:
    """The report from the file to the answer."""
    yield f"{found.model}: {found.title}, on {found.device}"
    if found.own is not None:
        yield from _own(found.own)
    else:
        yield f"file: not looked at: {found.not_looked_at}"
    if found.proof is not None:
        yield from _proof(found.proof)
    elif found.answer.verdict != "control":
        yield "certificate: none holds for this card"
    yield f"{found.answer.verdict}: {found.answer.text}"


def _own(own: OwnModel) -> Iterator[str]:
    if own.file is not None:
        kinds = ", ".join(f"{count} {dtype}" for dtype, count in own.file.dtypes.items())
        yield f"file: {own.file.path}, {own.file.bytes / 1e6:.1f} MB, sha256 {own.file.sha256}"
        yield f"  {own.file.tensors} tensors ({kinds}), {own.file.values / 1e6:.2f} million values"
        if own.file.made:
            yield "  synthetic weights, which nobody trained: numbers from this file say nothing of the published model"
        if own.file.other:
            yield f"  beside them: {', '.join(f'{name} ({kind})' for name, kind in own.file.other.items())}"
    if own.used is not None and own.ignored is not None:
        absent = own.absent or {}
        lacking = f"{len(absent)} missing that may be" if absent else "none missing"
        yield f"  {own.used} used, {lacking}, none left over, {len(own.ignored)} ignored"
        yield from (f"    {count} missing: {reason}" for reason, count in Counter(absent.values()).items())
        yield from (f"    {count} ignored: {reason}" for reason, count in Counter(own.ignored.values()).items())
    if own.text is not None:
        yield f"text encoder: {own.text.folder} ({own.text.origin}), digest {own.text.digest}"
    if own.report is not None:
        yield from _report(own.report)
    if own.trial is not None:
        asked = "length of its pooled vector" if own.trial.asked is None else f"asked for {own.trial.asked!r}: score"
        yield f"trial: {own.trial.image}, {asked} {own.trial.score:.6g} ({own.trial.seconds:.2f} s)"
    yield from (f"problem: {problem}" for problem in own.problems)


def _report(report: AdapterReport) -> Iterator[str]:
    judged = [finding for finding in report.findings if finding.passed is not None]
    yield f"adapter: {len(judged) - len(report.failed)} of {len(judged)} promises kept"
    word = {True: "kept", False: "BROKEN", None: "stated"}
    yield from (f"  {word[finding.passed]:6} {finding.name}: {finding.text}" for finding in report.findings)


def _proof(proof: Proof) -> Iterator[str]:
    yield f"certificate: {proof.title} ({proof.source}), {proof.seconds:.1f} s"
    if proof.reduced:
        told = ", ".join(f"{name} {here} of {there}" for name, (here, there) in proof.reduced.items())
        yield f"  smaller than the published model: {told}"
    for one in proof.compared:
        word = "equal" if one.equal else "DIFFERS"
        yield f"  {word:7} {one.output} ({one.recipe}): {one.difference:.1e}, at most {one.limit:.0e}"
    if proof.problem:
        yield f"  {proof.problem}"
