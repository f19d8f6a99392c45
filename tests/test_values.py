"""Frozen values are what frozen dataclasses are."""

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

import pytest

from predictor.values import FEW, frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    size: int
    name: str = "x"


@frozen(kw_only=True)
class Named:
    size: int
    name: str = "x"


@frozen
class Positional:
    size: int
    double: int = field(init=False)

    def __post_init__(self):
        if self.size < 0:
            raise ValueError(self.size)
        object.__setattr__(self, "double", 2 * self.size)


@frozen(kw_only=True)
class Longer(Named):
    tail: tuple[int, ...] = ()


@frozen(eq=False)
class Single:
    size: int


@frozen
class Nothing:
    """No fields."""


def test_a_value_is_made_compared_and_shown_as_a_frozen_dataclass():
    ours, theirs = Named(size=3), Standard(size=3)
    assert asdict(ours) == asdict(theirs)
    assert repr(ours) == repr(theirs).replace("Standard", "Named")
    assert ours == Named(size=3, name="x") != Named(size=4)
    assert {ours: 1}[Named(size=3)] == 1
    assert replace(ours, size=5) == Named(size=5)
    assert [each.name for each in fields(Longer)] == ["size", "name", "tail"]


@pytest.mark.parametrize("kind", [Standard, Named])
def test_a_missing_an_unknown_and_a_bare_argument_are_refused(kind):
    for arguments, named in (((), {}), ((), {"size": 1, "other": 2}), ((1,), {})):
        with pytest.raises(TypeError, match=r"__init__\(\)"):
            kind(*arguments, **named)


def test_the_first_values_of_a_class_are_made_as_the_later_ones():
    @frozen
    class Many:
        size: int
        name: str = "x"
        double: int = field(init=False)

        def __post_init__(self):
            object.__setattr__(self, "double", 2 * self.size)

    made = [Many(1), *(Many(1, name="x") for _ in range(FEW)), Many(1, "x"), Many(size=1)]
    assert set(map(repr, made)) == {f"{Many.__qualname__}(size=1, name='x', double=2)"}
    assert len(set(made)) == 1


def test_an_argument_given_twice_or_left_over_is_refused():
    for arguments, named in (((1,), {"size": 1}), ((1, 2), {}), ((), {"double": 2, "size": 1})):
        with pytest.raises(TypeError, match=r"__init__\(\)"):
            Positional(*arguments, **named)


def test_classes_with_the_same_content_differ():
    assert Longer(size=1) != Named(size=1)
    assert Longer(size=1, tail=(1,)) == Longer(size=1, tail=(1,))
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
    assert Nothing() != object()


def test_nothing_changes_a_value():
    one = Named(size=1)
    for change in (lambda: setattr(one, "size", 2), lambda: delattr(one, "size")):
        with pytest.raises(FrozenInstanceError, match=r"Named\.size"):
            change()
    with pytest.raises(FrozenInstanceError):
        one.other = 2
    assert one.size == 1


def test_a_value_may_derive_and_check():
    assert Positional(3).double == 6
    with pytest.raises(ValueError, match="-1"):
        Positional(-1)


def test_a_value_without_equality_equals_itself_alone():
    one = Single(1)
    assert one == one  # noqa: PLR0124
    assert one != Single(1)


@pytest.mark.parametrize("each", [Named(size=2), Positional(2), Longer(size=1, tail=(2,))])
def test_a_value_survives_pickling(each):
    assert pickle.loads(pickle.dumps(each)) == each  # noqa: S301


def test_an_estimate_imports_nothing_that_it_does_not_need():
    code = (
        "import sys; from predictor.cli import run; "
        "run(['estimate', 'llama3-8b', '--gpu', 'h100-sxm5-80gb', '--num-gpus', '8']); "
        "sys.stdout = sys.stderr; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    unneeded = {"pandas", "statsmodels", "scipy", "statistics", "csv", "tempfile", "difflib"}
    unneeded |= {"predictor.tables", "predictor.bench", "predictor.search"}
    assert not unneeded & set(done.stderr.split())
