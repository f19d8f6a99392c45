"""Changes of a text that readers may stumble over."""

import random
import re
from collections.abc import Iterator, Sequence

NASTY = (
    b"0", b"-1", b"1", b"2", b"0.5", b"-0.0", b"1e400", b"-1e400", b"1e-400", b"1e308", b"nan",
    b"NaN", b"inf", b"Infinity", b"-Infinity", b"9223372036854775808", b"1" + b"0" * 40,
    b"1" + b"0" * 150, b"1" + b"0" * 400, b"0x" + b"f" * 4000,
    b"1" * 5000, b"1_000", b"1024", b"1000000", b"true", b"false", b"null", b"None", b"[]", b"{}",
    b"[[]]", b"[0]", b"[1, 1]", b'[1, "a"]', b'{"a": 1}', b'""', b'" "', b'"a"', b'"\\u0000"',
    b'"\\ud800"', b'"../../etc/passwd"', b'"/dev/zero"', b'"histogram:/dev/zero"', b'"zipf:nan"',
    b'"<script>"', b'"\\u001b[2J"', b"2026-11-22", b"12:00:00", b"\xff", b"\x00", b"\xe2\x80\xae",
    b"\xd9\xa1\xd9\xa2", b"\xc2\xb2", b"auto", b"none", b'"none"', b'"full"', b"'", b'"', b"\\",
    b"${A}", b"$((1/0))", b"$((2**99999))", b"*x", b"&x", b"!!int", b"<<", b"[" * 200,
)  # fmt: skip
WORD = re.compile(rb'"[^"\n]{0,80}"|-?\d[\d.eE+_-]*|[A-Za-z_$][\w./-]*|[\[\]{}()=,:*+]')


def changed(data: bytes, chance: random.Random) -> bytes:
    """One change of a text: a word for another, or lines repeated, dropped or swapped."""
    words = list(WORD.finditer(data))
    if words and chance.random() < 0.8:
        at = chance.choice(words)
        other = chance.choice(words)[0] if chance.random() < 0.3 else chance.choice(NASTY)
        return data[: at.start()] + other + data[at.end() :]
    lines = data.splitlines(keepends=True)
    if not lines:
        return chance.choice(NASTY)
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(3):
        case 0:
            lines.insert(first, lines[second])
        case 1:
            del lines[first]
        case _:
            lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


NUMBERS = (
    b"0", b"-0.0", b"1", b"-1", b"2", b"0.5", b"5", b"10", b"-10", b"50", b"-50", b"99.9", b"-99.9",
    b"1e3", b"1e4", b"1e6", b"1e9", b"1e12", b"1e15", b"1e18", b"1e21", b"-1e9", b"-1e18", b"1e100",
    b"1e150", b"-1e150", b"1e300", b"1.7e308", b"-1.7e308", b"1e-3", b"1e-6", b"1e-9", b"1e-12",
    b"1e-18", b"1e-150", b"1e-300", b"5e-324", b"1000000", b"2147483648", b"1099511627776",
    b"9007199254740993", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808",
    b"1" + b"0" * 40, b"nan", b"inf", b"-inf", b"NaN", b"Infinity", b"-Infinity",
)  # fmt: skip
FACTORS = (-1.0, 1e-6, 1e-3, 0.1, 10.0, 1e3, 1e6)
NUMBER = re.compile(rb"(?<![\w.])[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
MOST_AT_ONCE = 4


def renumbered(seeds: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    """Every number of every seed by every other value, in any order; then several at once, ever on.

    Legal numbers alone show what a reader lets through that no formula can bear.
    """
    found = [list(NUMBER.finditer(seed)) for seed in seeds]
    singles = [
        (place, number, value)
        for place, numbers in enumerate(found)
        for number in range(len(numbers))
        for value in range(len(NUMBERS) + len(FACTORS))
    ]
    chance.shuffle(singles)
    for place, number, value in singles:
        yield _with(seeds[place], [(found[place][number], value)])
    while singles:
        place = chance.randrange(len(seeds))
        if numbers := found[place]:
            count = min(chance.randint(2, MOST_AT_ONCE), len(numbers))
            chosen = sorted(chance.sample(range(len(numbers)), count))
            values = [chance.randrange(len(NUMBERS) + len(FACTORS)) for _ in chosen]
            yield _with(
                seeds[place], [(numbers[n], v) for n, v in zip(chosen, values, strict=True)]
            )


def _with(seed: bytes, changes: Sequence[tuple[re.Match[bytes], int]]) -> bytes:
    """A seed with other values in place of some of its numbers, which are in order."""
    for number, value in reversed(changes):
        seed = seed[: number.start()] + _other(number[0], value) + seed[number.end() :]
    return seed


def _other(number: bytes, value: int) -> bytes:
    if value < len(NUMBERS):
        return NUMBERS[value]
    scaled = float(number) * FACTORS[value - len(NUMBERS)]
    return (str(int(scaled)) if scaled.is_integer() else repr(scaled)).encode()
