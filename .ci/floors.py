"""Write the lowest versions that pyproject.toml allows as pins: .ci/floors.py FILE [EXTRA ...].

Fails where a dependency of the package or of its extras has no lower or no upper bound.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def floors(extras: list[str]) -> list[str]:
    """Return ``name==lowest`` of every dependency of the package and of some extras.

    Raises:
        SystemExit: One lacks a bound; it is named.
    """
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    more = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(each for extra in extras for each in more[extra])]
    unbound = [
        each
        for each in (*project["dependencies"], *(each for group in more.values() for each in group))
        if not re.fullmatch(r"[A-Za-z0-9_.-]+>=[\d.]+,<[\d.]+", each)
    ]
    if unbound:
        raise SystemExit(f"pyproject.toml: not of the form name>=a,<b: {', '.join(unbound)}")
    return [each.partition(",")[0].replace(">=", "==") for each in wanted]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("\n".join([*floors(sys.argv[2:]), ""]), encoding="utf-8")
