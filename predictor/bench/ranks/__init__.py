"""Several GPUs: one process each, on one host or under a launcher.

In comes what a launcher's environment or ``--gpus`` says, out goes a :class:`Crew`: it answers the
requests that a single worker answers, and measures collectives on all of its ranks in lockstep.
Each rank's device lives in a worker of its own, local ones behind a pipe, those of other processes
behind a TCP connection that carries JSON. A rank that dies or hangs costs its point and a new crew.
"""

from predictor.bench.ranks.agent import serve_agent
from predictor.bench.ranks.crew import Crew
from predictor.bench.ranks.launch import gpus_of, nvls_of, spawner
from predictor.bench.ranks.world import World, world_of

__all__ = ["Crew", "World", "gpus_of", "nvls_of", "serve_agent", "spawner", "world_of"]
