"""The largest counts and the least rate of a case, beyond any machine that could exist."""

MAX_GPUS = 2**22
MAX_LAYERS = 10_000
MAX_STAGES = 2048
MAX_HIDDEN = 2**20
MAX_FFN = 2**22
MAX_HEADS = 2**14
MAX_HEAD_DIM = 2**12
MAX_VOCAB = 2**24
MAX_SEQUENCE = 2**27
MAX_BATCH = 2**30
MAX_EXPERTS = 2**16

LEAST_RATE = 1e-3
"""Bytes a second of the slowest link that is worth a question; less only overflows."""
