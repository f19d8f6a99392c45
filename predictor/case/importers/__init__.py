"""What people already run: other tools' configurations in, fields of a case with their source out.

In: a Hugging Face ``config.json``, Megatron-LM's arguments, a torchtitan TOML, a recipe of
Megatron-Bridge or NeMo as YAML, a nanotron YAML, a DeepSpeed JSON. Nothing in them is executed.
Out: :class:`Brought`, the fields of a case, each with file, line and the file's own words; the
settings that change neither time nor memory; and those that are not understood, which the case
carries as notes.
"""

from predictor.case.importers.found import Draft, Found, Imported
from predictor.case.importers.merging import Brought, merged
from predictor.case.importers.reading import (
    FORMS,
    case_from_files,
    case_of,
    foreign_format,
    read_configuration,
)
from predictor.case.importers.writing import case_file

__all__ = [
    "FORMS",
    "Brought",
    "Draft",
    "Found",
    "Imported",
    "case_file",
    "case_from_files",
    "case_of",
    "foreign_format",
    "merged",
    "read_configuration",
]
