"""Programs of a pipeline's stages by number: each distinct one is composed once."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from predictor.costs.prediction import Ints
from predictor.iteration.launches import Program
from predictor.iteration.layout import Layout
from predictor.iteration.maxplus import Words
from predictor.iteration.programs import StagePrograms
from predictor.values import frozen


@frozen(eq=False)
class Numbering:
    """Stages and their distinct programs.

    Attributes:
        stages: Programs of each stage.
        programs: The distinct ones in the order of their numbers: first those of passes.
        passes: How many are of passes.
        slots: Numbers by stage, chunk and place of ``ChunkPrograms``.
        ends: Numbers by stage of what follows its last pass: gradients' sum, and step.
        alone: Numbers by stage of what ``StagePrograms.alone`` has.
    """

    stages: tuple[StagePrograms, ...]
    programs: tuple[Program, ...]
    passes: int
    slots: Ints
    ends: Ints
    alone: Ints

    @classmethod
    def of(cls, stages: Sequence[StagePrograms]) -> "Numbering":
        """Number the programs of stages; equal stages share them."""
        index: dict[Program, int] = {}

        def numbers(programs: Iterable[Program]) -> list[int]:
            return [index.setdefault(program, len(index)) for program in programs]

        each = dict.fromkeys(stages)
        slots = {stage: [numbers(chunk.programs()) for chunk in stage.chunks] for stage in each}
        passes = len(index)
        ends = {stage: numbers((stage.reduce, stage.step)) for stage in each}
        alone = {stage: numbers(stage.alone()) for stage in each}
        tables = [
            np.array([table[stage] for stage in stages], dtype=np.int64)
            for table in (slots, ends, alone)
        ]
        return cls(tuple(stages), tuple(index), passes, *tables)

    def words(self, layout: Layout) -> Words:
        """The programs as words of a layout's segments, spelled once a process."""
        return _words(self, layout)


@lru_cache(maxsize=256)
def _words(numbering: Numbering, layout: Layout) -> Words:
    places = layout.segments
    spelled = [
        [places[segment] for segment, times in program for _ in range(times)]
        for program in numbering.programs
    ]
    return Words.of(spelled, len(places))
