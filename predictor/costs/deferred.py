"""Parts of a fit that are read when they are first asked for: a question needs few of them."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Final, TypeVar

from predictor.errors import FitError

DAMAGE: Final = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
)  # fmt: skip
"""What reading a JSON file of any content as a fit may raise."""

Key = TypeVar("Key", bound=Hashable)
Raw = TypeVar("Raw")
Value = TypeVar("Value")


class Deferred(Mapping[Key, Value]):
    """Values by key, each made from its raw form once.

    Raises:
        FitError: A raw form is damaged; raised when it is asked for.
    """

    def __init__(self, raw: Mapping[Key, Raw], read: Callable[[Raw], Value]) -> None:
        """Keep raw forms and what reads one."""
        self._raw = raw
        self._read = read
        self._values: dict[Key, Value] = {}

    def __getitem__(self, key: Key) -> Value:
        """One value."""
        if key not in self._values:
            raw = self._raw[key]
            try:
                self._values[key] = self._read(raw)
            except DAMAGE as error:
                raise FitError(
                    f"the fit's part {key!r} cannot be read ({error!r}); run `predictor fit`"
                ) from error
        return self._values[key]

    def __iter__(self) -> Iterator[Key]:
        """All keys."""
        return iter(self._raw)

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._raw)
