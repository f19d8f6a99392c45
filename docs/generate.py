"""Write the generated pages and blocks, or with ``--check`` say which of them are out of date.

    python docs/generate.py [--check] [case accuracy golden readme reliability]

``case`` is docs/case_reference.md, from the schema; ``accuracy`` is docs/accuracy.md, from the run
records in tests/validation; ``readme`` is what stands between the markers of README.md: the output
of its first command and a table of the steps that were measured for this project; ``reliability``
is the table of docs/reliability.md, from what tests/bench/faults.py promises; ``golden`` is
tests/validation/golden.json, estimates to ten digits.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import shlex
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING

from predictor.case.cluster_schema import Links
from predictor.case.defaults import DEFAULTS
from predictor.case.model_schema import Mla, Moe
from predictor.case.schema import SECTIONS
from predictor.case.section import Section, kinds
from predictor.case.whole import IMPLEMENTATION
from predictor.cli import run
from predictor.report.quantities import seconds_text, signed_percent_text
from predictor.report.table import markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
COMMAND = "estimate llama3-8b --gpu h100-sxm5-80gb --num-gpus 8"

OWN_RECORDS = "measured"

CASE_HEAD = """\
# The case

Generated from `predictor/case` by `docs/generate.py`; do not edit.

A case is what an estimate depends on: a TOML or JSON file of these sections, a mapping for
`Case.from_dict`, or flags of `predictor estimate` (`plan.tensor_parallel` is `--tensor-parallel`).
A field that is absent or null takes its default, and the estimate lists the defaults it took; a
field without a default and without *needed* may stay away. An unknown key, a value out of range or
degrees that do not divide are one error that names the key, the value, the rule and the nearest
right key. Keys that end in `_detail` are the source's words: some fill a field that is absent
(`predictor/case/details.py`), the others are left aside.

`[model]` may begin with `preset = "llama3-70b"` (`predictor models` lists them) or
`hf_config = "config.json"` (a path beside the case file); fields beside it win. A `name` that is
that of a public model fills what is absent, where the shape is the same.

**A run record** is a case with `id`, `source` and `measured = {iteration_seconds,
peak_memory_bytes, ...}`, and maybe `source_location`, `framework`, `notes`: one JSON object a line
in the file that `predictor validate` reads. Nothing of these reaches the estimate.
"""


def case_reference() -> str:
    """Return docs/case_reference.md."""
    defaults = {default.key: default.rule for default in DEFAULTS}
    lines = [CASE_HEAD, "## implementation", ""]
    rows = [["`implementation`", IMPLEMENTATION.words(), defaults["implementation"]]]
    lines += markdown(["field", "values", "default"], rows)
    lines += ["", "`predictor implementations` lists the training stacks.", ""]
    for section in (SECTIONS["model"], Moe, Mla, *list(SECTIONS.values())[1:], Links):
        lines += [f"## [{section.path}]", "", (section.__doc__ or "").splitlines()[0], ""]
        lines += markdown(["field", "meaning", "values", "default"], [*_rows(section, defaults)])
        lines.append("")
    return "\n".join(lines)


def _rows(section: type[Section], defaults: dict[str, str]) -> Iterator[list[str]]:
    for each in fields(section):
        kind = kinds(section).get(each.name)
        if kind is None:
            continue
        needed = "*needed*" if each.default is MISSING else ""
        default = defaults.get(f"{section.path}.{each.name}", needed)
        yield [f"`{each.name}`", each.metadata["description"], kind.words(), default]


def accuracy_page() -> str:
    """Return docs/accuracy.md."""
    from predictor.report.accuracy import accuracy_markdown
    from predictor.report.costs import collectives_section, skus_section
    from predictor.validate import validate

    records = accuracy_markdown((path.name, validate(path)) for path in _record_files())
    return f"{records}\n{skus_section()}\n{collectives_section()}"


def _record_files() -> list[Path]:
    return sorted((ROOT / "tests" / "validation").glob("*.jsonl*"))


def readme() -> str:
    """Return README.md with its generated blocks renewed."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = f"```\n$ predictor {COMMAND}\n{_output_of(COMMAND)}```\n"
    text = _with_block(text, "estimate", printed)
    return _with_block(text, "accuracy", _readme_accuracy())


def reliability() -> str:
    """Return docs/reliability.md with its table of faults renewed."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = runpy.run_path(str(ROOT / "tests" / "bench" / "faults.py"))["table"]()
    head = ["fault", "brought about by", "the point under way", "the run", "exit code"]
    return _with_block(text, "faults", "\n".join(markdown(head, rows)) + "\n")


def _output_of(command: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run(shlex.split(command))
    if code:
        raise SystemExit(f"`predictor {command}` ended with exit code {code}")
    return printed.getvalue()


def _readme_accuracy() -> str:
    from predictor.validate import validate

    records = [
        record
        for path in _record_files()
        if path.name.startswith(OWN_RECORDS)
        for record in validate(path).to_dict()["records"]
        if "refused" not in record
    ]
    rows = [
        [
            record["id"],
            seconds_text(record["measured_seconds"]),
            seconds_text(record["predicted_seconds"]),
            f"{seconds_text(record['low'])} to {seconds_text(record['high'])}",
            signed_percent_text(record["relative_error"]),
        ]
        for record in records
    ]
    head = ["record", "measured", "predicted", "90 % interval", "error"]
    return "\n".join(markdown(head, rows)) + "\n"


def golden() -> str:
    """Return estimates of every fourth record, which all Pythons must give to ten digits.

    The libraries' exponentials differ in the last bits: 1e-12 between NumPy 1.26 and 2.5.
    """
    from predictor.run_records import read_records
    from predictor.validate import check

    records = [record for path in _record_files() for record in read_records(path)]
    answers = {}
    for record in records[::4]:
        told = check(record).to_dict()
        numbers = {key: value for key, value in told.items() if isinstance(value, float)}
        answers[str(told["id"])] = {key: f"{value:.10g}" for key, value in numbers.items()}
    return json.dumps(answers, indent=1) + "\n"


def _with_block(text: str, name: str, content: str) -> str:
    pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"the page lacks the markers of the block {name!r}")
    return re.sub(
        pattern, lambda found: f"{found[1]}{content}{found[2]}", text, count=1, flags=re.DOTALL
    )


PAGES: dict[str, tuple[Path, Callable[[], str]]] = {
    "case": (ROOT / "docs" / "case_reference.md", case_reference),
    "accuracy": (ROOT / "docs" / "accuracy.md", accuracy_page),
    "readme": (ROOT / "README.md", readme),
    "reliability": (ROOT / "docs" / "reliability.md", reliability),
    "golden": (ROOT / "tests" / "validation" / "golden.json", golden),
}


def main(arguments: list[str]) -> int:
    """Write or check the pages named; return the exit code."""
    check = "--check" in arguments
    stale = 0
    for name in [each for each in arguments if each != "--check"] or PAGES:
        path, page = PAGES[name]
        content = page()
        if path.is_file() and path.read_text(encoding="utf-8") == content:
            continue
        if check:
            print(f"{path.name} is out of date; run `python docs/generate.py {name}`")
            stale += 1
        else:
            path.write_text(content, encoding="utf-8")
            print(f"wrote {path.name}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
