"""Parts of the ``predictor`` command: what its commands share, and those with more than arguments.

In come arguments, out go a case, or text and JSON on stdout. Nothing is computed here.
"""
