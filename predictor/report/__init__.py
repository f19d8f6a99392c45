"""WHAT IS SHOWN: text, tables and pages.

In: an estimate, a validation report or a list of presets. Out: strings. The only other room beside
``units`` where units change: seconds become milliseconds here, bytes GiB.
"""
