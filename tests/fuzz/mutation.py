"""Changes of a text that readers may stumble over."""

import random
import re

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
