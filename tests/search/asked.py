"""What tests of the search ask: one preset, short sequences, H100."""

from predictor.search.question import Question


def question(model, implementation, *, gpus, batch, constraints):
    """All plans of a model, but for what ``constraints`` hold fixed."""
    return Question(
        mapping={
            "model": {"preset": model},
            "training": {"seq_length": 2048},
            "implementation": implementation,
        },
        gpus=("h100-sxm5-80gb",),
        num_gpus=(gpus,),
        global_batch_size=batch,
        constraints=constraints,
    )
