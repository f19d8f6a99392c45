"""One file of any format: the format found by name and content, and its reader called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from predictor.case.importers import (
    deepspeed,
    huggingface,
    megatron_arguments,
    nanotron,
    nemo,
    torchtitan,
)
from predictor.case.importers.files import parse, read_text
from predictor.case.importers.merging import merged
from predictor.case.reading import case_from_dict
from predictor.case.schema import SECTIONS
from predictor.case.section import shown
from predictor.errors import CaseError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from predictor.case.importers.found import Imported
    from predictor.case.importers.merging import Brought
    from predictor.case.whole import Case

FORMS: dict[str, Callable[[str, str], Imported]] = {
    huggingface.FORM: huggingface.read_huggingface,
    megatron_arguments.FORM: megatron_arguments.read_arguments,
    torchtitan.FORM: torchtitan.read_torchtitan,
    nemo.FORM: nemo.read_recipe,
    nanotron.FORM: nanotron.read_nanotron,
    deepspeed.FORM: deepspeed.read_deepspeed,
}
"""Readers by the name of their format, as ``--from-format`` takes it."""

TORCHTITAN_KEYS = frozenset({"job", "parallelism", "activation_checkpoint", "metrics"})

LINE = "command line"
_PYTHON_RULE = (
    "a configuration in Python is not read: only running it would tell what it holds; torchtitan: "
    "give its TOML, or the fields as flags; NeMo and Megatron-Bridge: write the recipe as YAML"
)


def read_configuration(name: str, *, form: str | None = None) -> Imported:
    """Read a file of another tool, or a line of Megatron's arguments.

    Args:
        name: A path; a text with options in it (``--num-layers 32 ...``) is read as it stands.
        form: One of :data:`FORMS`; None: found by the file's name and content.

    Raises:
        CaseError: The file cannot be read, its format is not known, or a value is not legal.
    """
    if form is not None and form not in FORMS:
        known = ", ".join(FORMS)
        raise CaseError(f"--from-format = {form}: must be one of {known}{nearest(form, FORMS)}")
    if re.search(r"(^|\s)--\w", name):
        return FORMS[form or megatron_arguments.FORM](LINE, name)
    path = Path(name)
    if path.suffix == ".py":
        raise CaseError(f"{path}: {_PYTHON_RULE}")
    text = read_text(path)
    return FORMS[form or _detected(path, text)](str(path), text)


def case_from_files(
    *names: str | Path, fields: Mapping[str, object] | None = None, form: str | None = None
) -> Case:
    """Return the case that files of other tools stand for.

    Args:
        names: Paths, or lines of Megatron-LM's arguments.
        fields: Fields by dotted path, which win: ``{"cluster.gpu": "h100-sxm5-80gb"}``.
        form: One of :data:`FORMS` for all of them; None: found for each.

    Raises:
        CaseError: A file cannot be read, two of them contradict each other, or a rule is broken.
    """
    sources = [read_configuration(str(name), form=form) for name in names]
    return case_of(merged(sources, fields or {}))


def case_of(brought: Brought) -> Case:
    """Return the case that files put together stand for.

    Raises:
        CaseError: A rule is broken; settings whose names look mistyped are told beside it.
    """
    try:
        return case_from_dict(brought.mapping(), origin=brought.origin)
    except CaseError as error:
        mistyped = [words for words in brought.unknown if "(did you mean " in words]
        if not mistyped:
            raise
        raise CaseError(f"{error}; {'; '.join(mistyped[:3])}") from error


def foreign_format(suffix: str, keys: Collection[str]) -> str | None:
    """Return the format of another tool's ``.json`` or ``.toml`` by its keys; None for others."""
    if suffix == ".json":
        if "model_type" in keys:
            return huggingface.FORM
        return deepspeed.FORM if deepspeed.KEYS & set(keys) else None
    return torchtitan.FORM if TORCHTITAN_KEYS & set(keys) else None


def _detected(path: Path, text: str) -> str:
    """The format of a file.

    Raises:
        CaseError: It is none that is known.
    """
    suffix = path.suffix.lower()
    if suffix in {".yaml", ".yml"}:
        return nanotron.FORM if nanotron.MARK.search(text) else nemo.FORM
    if suffix not in {".json", ".toml"}:
        return megatron_arguments.FORM
    keys = set(parse(str(path), text, suffix[1:]))
    form = foreign_format(suffix, keys)
    if form is not None:
        return form
    if keys & set(SECTIONS):
        raise CaseError(f"{path}: is a case of predictor; give it without --from")
    raise CaseError(
        f"{path}: is of no known format, its keys are {shown(', '.join(sorted(keys)))}; known: "
        f"{', '.join(FORMS)}; --from-format names one"
    )
