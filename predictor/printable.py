"""Text of files and names, made safe for a terminal."""

import re
from collections.abc import Callable
from typing import Final

_HIDDEN: Final = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # no width, direction
    "\ud800-\udfff\U000e0000-\U000e007f]"  # half characters and tags
)


def hidden_as(text: str, shown: Callable[[str], str]) -> str:
    """Return a text with every character that is obeyed, not shown, by a terminal replaced."""
    if text.replace("\n", "").isprintable():  # most are; to compile the expression takes 3 ms
        return text
    return re.sub(_HIDDEN, lambda found: shown(found[0]), text)


def printable(text: str) -> str:
    r"""Return a text whose control and direction characters are written out, as ``\x1b``."""
    return hidden_as(text, lambda character: character.encode("unicode_escape").decode())
