"""Where aiconfigurator-core keeps its tables, and which version of one is the newest.

Its wheel holds ``systems/data/<system>/<family>/<framework>/<version>/<table>.parquet``. A version
without a table of its own may point to another by ``reuse.yaml``.
"""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from predictor.errors import TableError
from predictor.files import YAML_ERRORS, check_plain, read_text
from predictor.values import frozen

PACKAGE: Final = "aiconfigurator-core"
DATA: Final = Path("aiconfigurator_core") / "systems" / "data"
MAX_REUSE: Final = 8
MAX_REUSE_BYTES: Final = 256 * 1024

_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@frozen
class Chosen:
    """One table of the package.

    Attributes:
        path: Of the Parquet file.
        version: Directory that it was found under, of a framework or of NCCL.
        framework: That called the kernels.
    """

    path: Path
    version: str
    framework: str


def package_root(folder: Path | None) -> tuple[Path, str]:
    """Return the tables' folder, of an unpacked wheel or of the installed package, and its version.

    Raises:
        TableError: The folder holds no tables, or the package is not installed.
    """
    if folder is not None:
        for root in (folder / DATA, folder / "systems" / "data", folder):
            if any(root.glob("*/*/*/*/*.parquet")):
                return root, _version_beside(root)
        raise TableError(f"{folder}: holds no tables of {PACKAGE} (<system>/gemm/.../*.parquet)")
    try:
        installed = distribution(PACKAGE)
    except PackageNotFoundError as error:
        words = f"{PACKAGE} is not installed: `pip install {PACKAGE}`, or name its unpacked wheel"
        raise TableError(f"{words} with --folder") from error
    return Path(str(installed.locate_file(DATA))), installed.version


def _version_beside(root: Path) -> str:
    """Version of an unpacked wheel, from the name of its metadata's folder."""
    for parent in list(root.parents)[:4]:
        for info in sorted(parent.glob("aiconfigurator_core-*.dist-info")):
            return info.name.removeprefix("aiconfigurator_core-").removesuffix(".dist-info")
    return "unknown"


def newest_table(folder: Path, table: str) -> Chosen | None:
    """The table of the newest version that has one, its own or another's by reuse.yaml.

    Raises:
        TableError: A reuse.yaml is damaged.
    """
    if not folder.is_dir():
        return None
    versions = sorted((path.name for path in folder.iterdir() if path.is_dir()), key=_order)
    for version in reversed(versions):
        source = version
        for _ in range(MAX_REUSE):
            path = folder / source / f"{table}.parquet"
            if path.is_file():
                return Chosen(path, source, folder.name)
            alias = _reused(folder / source / "reuse.yaml", table)
            if alias is None:
                break
            source = alias
    return None


def _order(version: str) -> tuple[tuple[int, int | str], ...]:
    parts = version.replace("rc", ".rc.").replace("post", ".post.").split(".")
    return tuple((1, int(part)) if _NUMBER.fullmatch(part) else (0, part) for part in parts if part)


def _reused(path: Path, table: str) -> str | None:
    if not path.is_file():
        return None
    try:
        import yaml  # noqa: PLC0415 - needed by this format alone
    except ImportError as error:
        raise TableError(f"{path}: reading it needs PyYAML: `pip install pyyaml`") from error
    try:
        text = read_text(path, TableError, MAX_REUSE_BYTES)
        check_plain(path, text, TableError)
        entries = yaml.safe_load(text)["reuse"]
        found = [str(entry["from_version"]) for entry in entries if entry["table"] == table]
    except (*YAML_ERRORS, RecursionError, yaml.YAMLError) as error:
        raise TableError(f"{path}: cannot be read as a list of reused tables: {error}") from error
    if found and Path(found[0]).name != found[0]:
        raise TableError(f"{path}: from_version = {found[0]!r} is no version")
    return found[0] if found else None
