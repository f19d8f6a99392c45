"""Nothing but the error depends on what a record says beside its case."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.case import Case
from predictor.case.reading import RECORD_KEYS
from predictor.run_records import read_records
from predictor.validate import check

FOLDER = Path(__file__).parent
RECORDS = [
    record
    for name in ("published", "measured", "parallel", "single")
    for record in read_records(FOLDER / f"{name}.jsonl.gz")
]
OF_A_STACK = {
    (record["implementation"], record["cluster"]["gpu"]): record for record in reversed(RECORDS)
}
TELLING = {
    "id": "another",
    "source": "MLCommons MLPerf Training v3.1 result logs",
    "source_location": "elsewhere",
    "framework": "NeMo 24.07 / Megatron-Bridge, container 26.06",
    "notes": "task=LoRA fine-tuning; container 26.06 NeMo Container; interleaving in conf yaml",
}
"""Words that would name other attention, adapters, experts and chunks, were they read."""

words = st.fixed_dictionaries({}, optional=dict.fromkeys(TELLING, st.text() | st.none()))


def sections(record):
    """A record's case alone."""
    return {key: value for key, value in record.items() if key not in RECORD_KEYS}


def test_the_keys_of_a_record_are_all_changed_here():
    assert {*TELLING, "measured"} == RECORD_KEYS
    assert len(OF_A_STACK) >= 20


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["id"])
def test_a_case_is_what_its_sections_say(record):
    case = Case.from_dict(sections(record))
    assert Case.from_dict(record) == case
    assert Case.from_dict({**record, **TELLING, "measured": {"iteration_seconds": 1e9}}) == case


@given(record=st.sampled_from(RECORDS), told=words)
def test_no_words_change_a_case(record, told):
    assert Case.from_dict({**record, **told}) == Case.from_dict(sections(record))


@pytest.mark.parametrize("record", OF_A_STACK.values(), ids=lambda record: record["id"])
def test_an_estimate_and_its_interval_are_those_of_the_case_alone(record):
    other = {**record, **TELLING, "measured": {"iteration_seconds": 1e9}}
    asked = {"id": "x", "source": "y", "measured": {"iteration_seconds": 1.0}}
    found = [check(each) for each in (record, other, {**sections(record), **asked})]
    told = [(each.predicted_seconds, each.low, each.high, each.predicted_bytes) for each in found]
    assert told[0] == told[1] == told[2]
    assert {each.refused is None for each in found} == {found[0].refused is None}
