"""Scale factors. Inside the package every quantity is in SI base units."""

MIB = 1024**2
GIB = 1024**3

MICROSECOND = 1e-6
MILLISECOND = 1e-3

HOUR_SECONDS = 3600.0

CALL_SECONDS = (1e-9, 1e5)
"""Least and most that a call of anything may have taken."""

LARGEST_SIZE = 2**40
"""Of any size of an operator."""

MWH_JOULES = 3.6e9
