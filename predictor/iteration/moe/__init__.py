"""Mixture-of-experts layers: how experts lie over ranks, how evenly tokens reach them, what runs.

In come a model's experts and a plan; out go the groups that experts talk in, the load of the
fullest rank, and the launches of router, dispatch, experts and combine that a stack puts into its
layers.
"""
