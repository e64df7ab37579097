"""Seeded damages that know nothing of a file's format: changes of bytes."""

import random as random_module
import struct

Random = random_module.Random
# Values that sizes and counts are overwritten with: edges of the integer types, and zeros.
EDGES = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**20,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)


def flip_bits(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        changed[place(changed, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwrite_number(content: bytes, random: Random) -> bytes:
    """Puts an edge of the integer types where a size may stand."""
    size = random.choice('BHIQ')
    value = random.choice((*EDGES, len(content), len(content) + 1)) % 256 ** struct.calcsize(size)
    number = struct.pack(random.choice('<>') + size, value)
    start = place(content, random)
    return (content[:start] + number + content[start + len(number) :])[: len(content)]


def truncate(content: bytes, random: Random) -> bytes:
    return content[: place(content, random)]


def insert(content: bytes, random: Random) -> bytes:
    start = place(content, random)
    return content[:start] + random.randbytes(random.choice((1, 4, 100))) + content[start:]


def remove(content: bytes, random: Random) -> bytes:
    start = place(content, random)
    return content[:start] + content[start + random.choice((1, 4, 100)) :]


def swap(content: bytes, random: Random) -> bytes:
    length = random.choice((1, 4, 16, 64))
    first, second = sorted(place(content, random) for _ in range(2))
    if second - first < length:
        return flip_bits(content, random)
    return (
        content[:first]
        + content[second : second + length]
        + content[first + length : second]
        + content[first : first + length]
        + content[second + length :]
    )


def repeat(content: bytes, random: Random) -> bytes:
    start = place(content, random)
    part = content[start : start + random.choice((4, 64, 1000))]
    return content[:start] + part * random.choice((2, 50)) + content[start:]


def blank(content: bytes, random: Random) -> bytes:
    start = place(content, random)
    length = min(random.choice((4, 64, 1000)), len(content) - start)
    return content[:start] + random.choice((b'\0', b'\xff')) * length + content[start + length :]


def append(content: bytes, random: Random) -> bytes:
    return content + random.choice((random.randbytes(50), content, bytes(5000)))


BYTES = (
    flip_bits,
    flip_bits,
    overwrite_number,
    overwrite_number,
    truncate,
    insert,
    remove,
    swap,
    repeat,
    blank,
    append,
)


def place(content: bytes, random: Random) -> int:
    """Draws a position, every second time near one of the ends, where headers and indices are."""
    if not content:
        raise ValueError('an empty file')
    near = min(len(content), 256)
    return random.choice(
        (
            random.randrange(len(content)),
            random.randrange(len(content)),
            random.randrange(near),
            len(content) - 1 - random.randrange(near),
        )
    )
