"""Which SKU a GPU is: the name of its folder of tables."""

import re
from collections.abc import Mapping
from typing import Any, Final

from predictor.errors import BenchError

MOCK_SKU: Final = "mock"

# Names that the driver reports and that do not say the board: form factor or memory is missing.
_REPORTED: Final = {
    "NVIDIA H100 80GB HBM3": "h100-sxm5-80gb",
    "NVIDIA H100 PCIe": "h100-pcie-80gb",
    "NVIDIA H200": "h200-sxm5-141gb",
    "NVIDIA H20": "h20-sxm5-96gb",
    "NVIDIA H800": "h800-sxm5-80gb",
    "NVIDIA H100 96GB HBM3": "h100-sxm5-96gb",
    "NVIDIA B200": "b200-sxm",
    "NVIDIA B300 SXM6 AC": "b300-sxm",
}
_LEGAL = re.compile(r"[a-z0-9][a-z0-9-]*")


def sku_of(properties: Mapping[str, Any], wanted: str) -> str:
    """The SKU of a device.

    Args:
        properties: Of the device, as the native extension reports them.
        wanted: ``auto``, or a name that the user insists on.

    Raises:
        BenchError: The wanted name cannot be that of a folder of tables.
    """
    if wanted != "auto":
        if not _LEGAL.fullmatch(wanted):
            msg = f"--sku {wanted!r} must be lower-case letters, digits and hyphens"
            raise BenchError(msg)
        return wanted
    name = str(properties.get("name", "gpu"))
    if name in _REPORTED:
        return _REPORTED[name]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("nvidia ")).strip("-")
    return slug or "gpu"
