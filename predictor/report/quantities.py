"""Quantities in words: the unit is chosen here and nowhere else."""

from __future__ import annotations

from predictor.units import GIB, MIB, MICROSECOND, MILLISECOND

_MINUTE_SECONDS = 60.0
_BAR = "#"


def seconds_text(seconds: float) -> str:
    """Return seconds with three or four digits: ``12.3 us``, ``101.6 ms``, ``5.234 s``."""
    if seconds < MILLISECOND:
        return f"{seconds / MICROSECOND:.1f} us"
    if seconds < 1:
        return f"{seconds / MILLISECOND:.1f} ms"
    if seconds < 2 * _MINUTE_SECONDS:
        return f"{seconds:.3f} s"
    return f"{seconds / _MINUTE_SECONDS:.1f} min"


def bytes_text(size: float) -> str:
    """Return bytes in MiB or GiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def rate_text(flops_per_second: float) -> str:
    """Return a rate in TFLOP/s."""
    return f"{flops_per_second / 1e12:.1f} TFLOP/s"


def percent_text(share: float) -> str:
    """Return a share with one decimal: ``47.3 %``."""
    return f"{100 * share:.1f} %"


def signed_percent_text(share: float) -> str:
    """Return a relative error with its sign: ``-3.1 %``."""
    return f"{100 * share:+.1f} %"


def usd_text(usd: float) -> str:
    """Return an amount with as many digits as it needs."""
    return f"{usd:.2f} USD" if usd >= 1 else f"{usd:.3g} USD"


def joules_text(joules: float) -> str:
    """Return energy in J, kJ or MJ."""
    for scale, unit in ((1e6, "MJ"), (1e3, "kJ")):
        if joules >= scale:
            return f"{joules / scale:.2f} {unit}"
    return f"{joules:.1f} J"


def count_text(count: float) -> str:
    """Return a count with thousands separated."""
    return f"{count:,.0f}"


def bar(share: float, width: int = 24) -> str:
    """Return a bar that fills ``share`` of ``width`` characters."""
    return _BAR * round(max(0.0, min(1.0, share)) * width)
