"""Seeded damages to files: changes that know a format, and those of byte_mutations.py.

A checksum stops nearly every random change at the first function that reads the file. So formats
with a checksum are also changed under a corrected checksum: PNG chunks, TFRecords, members of zip
archives and the index of TensorFlow's checkpoints.
"""

import io
import json
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable

from hostile.byte_mutations import (
    BYTES,
    EDGES,
    Random,
    blank,
    flip_bits,
    overwrite_number,
    swap,
)

WORTHLESS = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    float('nan'),
    float('inf'),
    '',
    'x',
    '\0',
    '../..',
    'a' * 5000,
    [],
    {},
    [[]],
    [None],
    {'': None},
    [1, 'a'],
    -1.5,
)


def mutate(name: str, content: bytes, random: Random) -> bytes:
    """Damages the content of a file `name`, in two of three cases by a change of its own format."""
    for fits, changes in FORMATS.items():
        if fits in name and random.random() < 2 / 3:
            try:
                return random.choice(changes)(content, random)
            except (ValueError, IndexError, KeyError, struct.error):
                break  # not of this format after all, or too small for this change
    return random.choice(BYTES)(content, random)


def change_jpeg(content: bytes, random: Random) -> bytes:
    """Changes one segment: its length, its content, its place, or the size of the image."""
    segments = []
    position = 2
    while content[position] == 0xFF and content[position + 1] != 0xDA:
        length = struct.unpack_from('>H', content, position + 2)[0]
        segments.append((position, position + 2 + length))
        position += 2 + length
    frame = next(start for start, _ in segments if content[start + 1] in (0xC0, 0xC2))
    start, end = random.choice(segments)
    kind = random.choice(('size', 'size', 'length', 'content', 'twice', 'missing', 'components'))
    if kind == 'size':
        sides = [random.choice((0, 1, 7, 2000, 30000, 65500, 65535)) for _ in range(2)]
        return replace(content, frame + 5, struct.pack('>HH', *sides))
    if kind == 'components':
        return replace(content, frame + 9, random.randbytes(1 + random.randrange(9)))
    if kind == 'length':
        return replace(content, start + 2, struct.pack('>H', random.choice(EDGES[:9])))
    if kind == 'content':
        return (
            content[: start + 4]
            + random.choice(BYTES)(content[start + 4 : end], random)
            + content[end:]
        )
    return content[:start] + content[start:end] * (2 if kind == 'twice' else 0) + content[end:]


def change_png(content: bytes, random: Random) -> bytes:
    """Changes one chunk, or the order of chunks, under right checksums."""
    chunks = []
    position = 8
    while position < len(content):
        length, kind = struct.unpack_from('>I4s', content, position)
        chunks.append([kind, content[position + 8 : position + 8 + length]])
        position += 12 + length
    action = random.choice(('size', 'bomb', 'form', 'data', 'data', 'order', 'missing', 'twice'))
    chosen = random.randrange(len(chunks))
    if action in ('size', 'bomb'):
        sides = [random.choice((0, 1, 9, 3000, 20000, 2**16, 2**24, 2**31 - 1)) for _ in range(2)]
        chunks[0][1] = struct.pack('>II', *sides) + chunks[0][1][8:]
        if action == 'bomb':
            chunks[1:] = [[b'IDAT', ZEROS], [b'IEND', b'']]
    elif action == 'form':
        chunks[0][1] = chunks[0][1][:8] + random.randbytes(5)
    elif action == 'data':
        chunks[chosen][1] = random.choice(BYTES)(chunks[chosen][1], random)
    elif action == 'order':
        random.shuffle(chunks)
    else:
        chunks[chosen : chosen + 1] = [chunks[chosen]] * (2 if action == 'twice' else 0)
    return content[:8] + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in chunks
    )


ZEROS = zlib.compress(bytes(2**24))


def change_tfrecord(content: bytes, random: Random) -> bytes:
    """Changes one record, its length, or the order of records, under right checksums."""
    records = []
    position = 0
    while position < len(content):
        length = struct.unpack_from('<Q', content, position)[0]
        records.append(content[position + 12 : position + 12 + length])
        position += 16 + length
    lengths = [len(record) for record in records]
    chosen = random.randrange(len(records))
    action = random.choice(('length', 'record', 'record', 'record', 'order', 'twice'))
    if action == 'length':
        lengths[chosen] = random.choice(EDGES)
    elif action == 'record':
        records[chosen] = random.choice(BYTES)(records[chosen], random)
        lengths[chosen] = len(records[chosen])
    elif action == 'order':
        other = random.randrange(len(records))
        for values in (records, lengths):
            values[chosen], values[other] = values[other], values[chosen]
    else:
        records.append(records[chosen])
        lengths.append(lengths[chosen])
    return b''.join(
        (header := struct.pack('<Q', length))
        + masked_crc32c(header)
        + record
        + masked_crc32c(record)
        for record, length in zip(records, lengths, strict=True)
    )


def change_zip(content: bytes, random: Random) -> bytes:
    """Changes one member of an archive, which is then written anew, now and then compressed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice([*members, *[key for key in members if key.endswith('.pkl')] * 3])
    action = random.choice(('change', 'change', 'change', 'missing', 'swap', 'bomb'))
    if action == 'change':
        change = change_pickle if name.endswith('.pkl') else random.choice(BYTES)
        members[name] = change(members[name], random)
    elif action == 'missing':
        del members[name]
    elif action == 'swap':
        other = random.choice(list(members))
        members[name], members[other] = members[other], members[name]
    else:
        members[name] += bytes(2**28)
    changed = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if action == 'bomb' else zipfile.ZIP_STORED
    with zipfile.ZipFile(changed, 'w', method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return changed.getvalue()


def change_pickle(content: bytes, random: Random) -> bytes:
    """Changes an instruction of a pickle, or adds one that would make a directory when it is run.

    The directory is EXECUTED in the current one.
    """
    starts = [position for _, _, position in pickletools.genops(content)]
    at = random.choice(starts)
    action = random.choice(('call', 'call', 'memo', 'swap', 'bytes', 'integer', 'missing'))
    if action == 'call':
        call = random.choice(
            (
                f'cposix\nmkdir\n(V{EXECUTED}\ntR',
                f'(V{EXECUTED}\niposix\nmkdir\n',
                f'cbuiltins\neval\n(Vimport_("os").mkdir("{EXECUTED}")\ntR',
            )
        ).encode()
        return content[:at] + call + content[at:]
    if action == 'memo':
        return content[:at] + b'r' + struct.pack('<I', random.choice(EDGES) % 2**32) + content[at:]
    if action == 'integer':
        number = b'\x8a\x08' + struct.pack('<Q', random.choice(EDGES))
        return content[:at] + number + content[at:]
    if action == 'bytes':
        size = struct.pack('<Q', random.choice(EDGES))
        return content[:at] + random.choice((b'\x8e', b'\x8d', b'\x96')) + size + content[at:]
    following = min((start for start in starts if start > at), default=len(content))
    if action == 'missing':
        return content[:at] + content[following:]
    other = random.choice(starts)
    return content[:at] + content[other : other + 6] + content[following:]


EXECUTED = 'executed-by-a-pickle'


def change_legacy_pickle(content: bytes, random: Random) -> bytes:
    """Changes one of the five pickles in a row that older versions of torch wrote."""
    file = io.BytesIO(content)
    bounds = [0]
    for _ in range(5):
        for _ in pickletools.genops(file):
            pass
        bounds.append(file.tell())
    chosen = random.choice((0, 1, 2, 3, 3, 3, 4))
    start, end = bounds[chosen : chosen + 2]
    return content[:start] + change_pickle(content[start:end], random) + content[end:]


def change_table(content: bytes, random: Random) -> bytes:
    """Changes a block of a sorted-string table (LevelDB's format) under a right checksum."""
    footer = content[-48:]
    index = varints(footer, 4)[2:]
    blocks = [tuple(index)]
    block = content[index[0] : index[0] + index[1]]
    shared, unshared, size = varints(block, 3)
    start = 3 + unshared
    del shared, size
    blocks += [tuple(varints(block[start:], 2))] * 3
    start, size = random.choice(blocks)
    changed = random.choice((flip_bits, overwrite_number, swap, blank))(
        content[start : start + size], random
    )
    checksum = masked_crc32c(changed + content[start + size : start + size + 1])
    return (
        content[:start]
        + changed
        + content[start + size : start + size + 1]
        + checksum
        + content[start + size + 5 :]
    )


def change_safetensors(content: bytes, random: Random) -> bytes:
    """Changes the JSON header and sets its length right, or wrong on purpose."""
    length = struct.unpack_from('<Q', content)[0]
    header = change_json(content[8 : 8 + length], random)
    stated = random.choice((len(header),) * 6 + (random.choice(EDGES),))
    return struct.pack('<Q', stated) + header + content[8 + length :]


def change_json(content: bytes, random: Random) -> bytes:
    """Changes one value of a JSON document, or of one line of a file of them."""
    lines = content.decode().splitlines(keepends=True)
    try:
        json.loads(lines[0])
    except ValueError:
        lines = [content.decode()]
    chosen = random.randrange(len(lines))
    document = json.loads(lines[chosen])
    if random.random() < 0.05:
        lines[chosen] = '[' * 100_000 + '\n'
    else:
        end = '\n' if lines[chosen].endswith('\n') else ''
        lines[chosen] = json.dumps(change_value(document, random)) + end
    return ''.join(lines).encode()


def change_value(document, random: Random):
    """Replaces, removes, renames or exchanges one of the values of `document`."""
    places = [(None, None)]
    pending = [document]
    while pending:
        holder = pending.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            places.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                pending.append(holder[key])
    holder, key = random.choice(places)
    if holder is None:
        return random.choice(WORTHLESS)
    action = random.choice(('replace', 'replace', 'number', 'remove', 'rename', 'exchange'))
    if action == 'replace':
        holder[key] = random.choice(WORTHLESS)
    elif action == 'number':
        holder[key] = random.choice((1, -1)) * random.choice(EDGES)
    elif action == 'remove':
        del holder[key]
    elif action == 'rename' and isinstance(holder, dict):
        holder[key + random.choice(('x', '.x', '\n'))] = holder.pop(key)
    else:
        other, other_key = random.choice(places[1:])
        holder[key], other[other_key] = other[other_key], holder[key]
        json.dumps(document)  # raises ValueError where it now holds itself
    return document


FORMATS: dict[str, tuple[Callable[[bytes, Random], bytes], ...]] = {
    '.jpg': (change_jpeg,),
    '.png': (change_png,),
    '.tfrecord': (change_tfrecord,),
    'zip.pth': (change_zip,),
    'wrapped.pth': (change_zip,),
    '.npz': (change_zip,),
    'legacy.pth': (change_legacy_pickle,),
    '.safetensors': (change_safetensors,),
    '.index': (change_table,),
    '.json': (change_json,),
    'METADATA': (change_json,),
    'metrics': (change_json,),
    'metadata': (change_json,),
    '_sharding': (change_json,),
}


def replace(content: bytes, start: int, part: bytes) -> bytes:
    return content[:start] + part + content[start + len(part) :]


def varints(content: bytes, count: int) -> list[int]:
    """Reads the first `count` numbers of seven bits a byte, lowest first."""
    numbers, value, shift = [], 0, 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(value)
            value = shift = 0
            if len(numbers) == count:
                return numbers
    raise ValueError('not so many numbers')


def masked_crc32c(content: bytes) -> bytes:
    """Returns the checksum of TFRecords and sorted-string tables (TensorFlow's crc32c.h)."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC32C = _crc32c_table()
