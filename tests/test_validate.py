"""Run records: what is read, what is refused, and how errors are summed up."""

import gzip
import json

import pytest

import predictor
from predictor.errors import CaseError
from predictor.run_records import read_records
from predictor.validate import Checked, check, summarise, validate

RECORD = {
    "id": "toy/1",
    "source": "a test",
    "model": {"preset": "llama3.2-1b"},
    "training": {"seq_length": 4096, "micro_batch_size": 1, "global_batch_size": 1},
    "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1},
    "implementation": "hf-eager",
    "measured": {"iteration_seconds": 0.1},
}


def checked(predicted, measured=1.0, low=0.9, high=1.1):
    return Checked(
        identity="x",
        source="s",
        measured_seconds=measured,
        predicted_seconds=predicted,
        low=low,
        high=high,
    )


def test_summary_of_errors_by_hand():
    summary = summarise([checked(1.05), checked(0.9), checked(1.3, low=1.2, high=1.4)])
    assert summary["median_ape"] == pytest.approx(0.1)
    assert summary["mean_ape"] == pytest.approx((0.05 + 0.1 + 0.3) / 3)
    assert summary["worst_ape"] == pytest.approx(0.3)
    assert summary["within_10_percent"] == pytest.approx(2 / 3)
    assert summary["interval_coverage"] == pytest.approx(2 / 3)


def test_rank_correlation_is_one_for_the_right_order():
    records = [checked(p, measured=m) for p, m in ((1.0, 2.0), (2.0, 3.0), (3.0, 9.0))]
    assert summarise(records)["rank_correlation"] == pytest.approx(1.0)
    assert summarise(records[:1])["rank_correlation"] is None


def test_rank_correlation_gives_ties_their_middle_rank():
    predicted, measured = (1.0, 2.0, 2.0, 3.0), (1.0, 2.0, 3.0, 4.0)
    records = [checked(p, measured=m) for p, m in zip(predicted, measured, strict=True)]
    # Ranks 1, 2.5, 2.5, 4 beside 1, 2, 3, 4: sums of squares 4.5 and 5, of products 4.5.
    assert summarise(records)["rank_correlation"] == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_nine_of_ten_errors_lie_below_the_90th_percentile():
    summary = summarise([checked(1.0 + n / 100) for n in range(11)])
    assert summary["p90_ape"] == pytest.approx(0.09)


def test_refused_records_are_counted_not_hidden():
    refused = Checked(identity="x", source="s", measured_seconds=1.0, refused="why")
    summary = summarise([refused, checked(1.0)])
    assert (summary["records"], summary["predicted"], summary["refused"]) == (2, 1, 1)
    assert refused.to_dict() == {"id": "x", "refused": "why"}


def test_nothing_but_the_error_depends_on_what_was_measured():
    first = check(RECORD)
    other = check({**RECORD, "id": "y", "notes": "?", "measured": {"iteration_seconds": 7.0}})
    assert first.predicted_seconds == other.predicted_seconds
    assert first.relative_error != other.relative_error


def test_gzipped_records_read_like_plain_ones(tmp_path):
    plain, packed = tmp_path / "r.jsonl", tmp_path / "r.jsonl.gz"
    plain.write_text(json.dumps(RECORD) + "\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(read_records(plain)) == list(read_records(packed))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[]", "an object"),
        ('{"id": 1, "source": 2}', "measured"),
        ('{"id": 1, "source": 2, "measured": {"iteration_seconds": -1}}', "must be a number from"),
        ('{"id": 1, "source": 2, "measured": {"iteration_seconds": NaN}}', "must be a number from"),
        (
            '{"id": 1, "source": 2, "measured": {"iteration_seconds": true}}',
            "must be a number from",
        ),
        ("[" * 100_000, "nested deeper"),
    ],
)
def test_bad_lines_name_the_file_the_line_and_the_rule(tmp_path, line, words):
    path = tmp_path / "runs.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(CaseError, match=rf"runs\.jsonl:2: .*{words}"):
        validate(path)


def test_a_file_without_records_or_that_is_absent_is_refused_in_words(tmp_path):
    path = tmp_path / "runs.jsonl"
    with pytest.raises(CaseError, match=r"cannot be read: No such file or directory$"):
        validate(path)
    path.write_text("\n\n")
    with pytest.raises(CaseError, match="holds no run record"):
        validate(path)


def test_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "runs.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}")[:-4])
    with pytest.raises(CaseError, match="cannot be read"):
        validate(path)


def test_a_module_named_as_its_function_is_called_as_it(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(RECORD))
    (told,) = predictor.validate(path).records
    assert told.to_dict() == check(RECORD).to_dict()
    assert predictor.validate.check is check
    assert predictor.search("gpt2", gpu="h100-sxm5-80gb", num_gpus=1, global_batch_size=4).plans


@pytest.mark.parametrize("name", predictor.__all__)
def test_every_name_of_the_package_is_there_to_be_imported(name):
    assert callable(getattr(predictor, name))
    assert name in dir(predictor)
