"""A parser of compiled HLO text: computations, instructions, shapes and source lines."""

import dataclasses
import functools
import math
import pathlib
import re

_COMPUTATION = re.compile(r'(ENTRY )?%?([\w.\-]+) .*->.*\{$')
_PACKAGE = str(pathlib.Path(__file__).parents[1])  # it may be installed among the libraries
_INSTRUCTION = re.compile(r'\s+(ROOT )?%?([\w.\-]+) = ')
_OPCODE = re.compile(r' ([a-z][a-z0-9\-]*)\(')
_END_OF_OPERANDS = re.compile(r'\)(?:, |$)')
_REFERENCE = re.compile(r'%([\w.\-]+)')
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,]*)\]')
_BITS = re.compile(r'[a-z]+(\d+)')
_TABLE_ROW = re.compile(r'(\d+) (.*)')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation.

    shape and attributes are as printed; operands are the names of instructions of the same
    computation; `literal` is the text in the parentheses, which is the value of a constant.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    literal: str
    attributes: str
    is_root: bool

    @property
    def estimated_cycles(self) -> int | None:
        """The compiler's estimate of one execution; None without an estimate."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.attributes)
        return int(found[1]) if found else None

    @property
    def arrays(self) -> list[int]:
        """Bytes of each array in the shape, without the padding of its layout."""
        return [
            _bits(kind) * math.prod(map(int, filter(None, sizes.split(',')))) // 8
            for kind, sizes in _ARRAY.findall(self.shape)
        ]

    def attribute(self, name: str) -> str | None:
        """Returns the value of `name=value`, a bare word or the text in braces."""
        found = re.search(rf'(?:^|, ){name}=(\{{[^}}]*\}}|[^,\s]+)', self.attributes)
        return found[1] if found else None

    def called(self, name: str) -> list[str]:
        """Returns the computations to which the attribute `name` refers."""
        value = self.attribute(name)
        return re.findall(r'[\w.\-]+', value.replace('%', '')) if value else []


@dataclasses.dataclass(frozen=True)
class Module:
    """A parsed module: the name of its entry, and name -> instruction of every computation."""

    entry: str
    computations: dict[str, dict[str, Instruction]]
    frames: dict[int, tuple[str, int]]

    def root(self, computation: str) -> Instruction:
        instructions = self.computations[computation].values()
        return next(each for each in instructions if each.is_root)

    def source(self, instruction: Instruction) -> tuple[str, str]:
        """Returns ('file:line', op_name) of the Python call of an instruction; '' if unknown.

        The line is the innermost one outside installed packages, if there is one.
        """
        attributes = instruction.attributes
        name = re.search(r'op_name="([^"]*)"', attributes)
        frame = re.search(r'stack_frame_id=(\d+)', attributes)
        direct = re.search(r'source_file="([^"]*)" source_line=(\d+)', attributes)
        where = ''
        if frame and int(frame[1]) in self.frames:
            where = '{}:{}'.format(*self.frames[int(frame[1])])
        elif direct:
            where = f'{direct[1]}:{direct[2]}'
        return where, name[1] if name else ''


def parse(text: str) -> Module:
    """Parses the module in `compiled.as_text()`; raises ValueError for text without an ENTRY."""
    computations, entry, current = {}, None, None
    tables, table = {}, None
    for line in text.splitlines():
        if line in ('FileNames', 'FunctionNames', 'FileLocations', 'StackFrames'):
            table = tables.setdefault(line, {})
        elif table is not None and (row := _TABLE_ROW.fullmatch(line)):
            table[int(row[1])] = row[2]
        elif line[:1].isspace():
            if current is not None and (instruction := _instruction(line)):
                current[instruction.name] = instruction
        elif header := _COMPUTATION.match(line):
            table, current = None, {}
            computations[header[2]] = current
            entry = header[2] if header[1] else entry
    if entry is None:
        raise ValueError('the text holds no ENTRY computation')
    return Module(entry, computations, _frames(tables))


def _instruction(line: str) -> Instruction | None:
    start = _INSTRUCTION.match(line)
    opcode = start and _OPCODE.search(line, start.end() - 1)
    if not opcode:
        return None
    end = _END_OF_OPERANDS.search(line, opcode.end())
    literal = line[opcode.end() : end.start() if end else None]
    return Instruction(
        name=start[2],
        opcode=opcode[1],
        shape=line[start.end() : opcode.start()],
        operands=tuple(_REFERENCE.findall(literal)),
        literal=literal,
        attributes=line[end.end() :] if end else '',
        is_root=bool(start[1]),
    )


def _frames(tables: dict[str, dict[int, str]]) -> dict[int, tuple[str, int]]:
    """Returns {stack frame: (file, line)} from the tables at the start of the text."""

    def number(row, name):
        found = re.search(rf'\b{name}=(\d+)', row)
        return int(found[1]) if found else None

    files, locations = tables.get('FileNames', {}), tables.get('FileLocations', {})
    places, parents = {}, {}
    for frame, row in tables.get('StackFrames', {}).items():
        location = locations.get(number(row, 'file_location_id'), '')
        file = files.get(number(location, 'file_name_id'), '').strip('"')
        places[frame] = file, number(location, 'line')
        parents[frame] = number(row, 'parent_frame_id') - 1  # printed plus 1; 0: none

    def is_library(frame):
        file = places[frame][0]
        return 'site-packages' in file and not file.startswith(_PACKAGE)

    def own(frame):
        while is_library(frame) and parents[frame] in places:
            frame = parents[frame]
        return frame

    return {frame: places[own(frame)] for frame in places}


def dimensions(shape: str) -> list[int]:
    """Returns the sizes in an array's printed shape: [128, 80] for 'bf16[128,80]{1,0}'."""
    return [int(size) for size in _ARRAY.match(shape)[2].split(',') if size]


@functools.cache
def _bits(kind: str) -> int:
    """Returns the bits of an element type: f32 32, bf16 16, pred 8, s4 4."""
    if kind in ('token', 'opaque'):
        return 0
    return 8 if kind == 'pred' else int(_BITS.match(kind)[1])
