"""Tests of this folder count the same launches."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
