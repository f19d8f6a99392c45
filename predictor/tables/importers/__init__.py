"""Tables from other people's measurements: their files in, checked rows with their source out.

An importer reads one foreign format, keeps what training needs and gives :class:`Import`: rows by
operator and the provenance of their run. :func:`write_import` puts them into the folder of a SKU,
beside what was measured there; rows of an earlier import under the same run key are replaced.
"""

from predictor.tables.importers.aiconfigurator import read_aiconfigurator
from predictor.tables.importers.nccl_tests import read_nccl_tests
from predictor.tables.importers.writing import Import, write_import

__all__ = ["Import", "read_aiconfigurator", "read_nccl_tests", "write_import"]
