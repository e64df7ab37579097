"""The operations of a compiled TPU program: estimated cycles, bytes and collectives.

The compiler writes its estimate into each fusion. A computation counts as often as it runs: the
body of a loop once per trip, a conditional by its costliest branch. Instructions inside a fusion
are part of the fusion's estimate and are not counted again.
"""

import collections
import dataclasses
import functools
import re

from resnet_rs.plan.flops import multiply_add_flops
from resnet_rs.plan.hlo_text import Instruction, Module, parse
from resnet_rs.plan.loops import trip_count

COLLECTIVES = (
    'all-reduce',
    'all-gather',
    'reduce-scatter',
    'all-to-all',
    'ragged-all-to-all',
    'collective-permute',
    'collective-broadcast',
)
# Instructions that take no time, or whose time is counted elsewhere.
_FREE = (
    'parameter',
    'constant',
    'tuple',
    'get-tuple-element',
    'bitcast',
    'while',
    'conditional',
    'call',
    'after-all',
    'opt-barrier',
    'partition-id',
    'replica-id',
    'async-start',
    'async-update',
    'copy-start',
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """An instruction of the program that a step executes `executions` times.

    cycles, bytes and flops are those of one execution: the bytes of operands and results, the flops
    of convolutions and matrix products. `cycles` is 0 if the compiler gives no estimate. `source`
    is 'file:line' and `op_name` the path of JAX and linen names.
    """

    name: str
    opcode: str
    cycles: int
    bytes: int
    flops: int
    executions: int
    estimated: bool
    source: str
    op_name: str

    @property
    def total_cycles(self) -> int:
        return self.cycles * self.executions


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective of the program; bytes is the size of its result on one device."""

    kind: str
    bytes: int
    group_size: int
    executions: int
    op_name: str


@dataclasses.dataclass(frozen=True)
class Loop:
    """A while instruction; trips is None if it is unknown, and the body then counts once."""

    name: str
    trips: int | None
    executions: int


@dataclasses.dataclass(frozen=True)
class CompiledProgram:
    """The operations, collectives and loops of a program, in the order of the schedule."""

    operations: tuple[Operation, ...]
    collectives: tuple[Collective, ...]
    loops: tuple[Loop, ...]

    @property
    def cycles(self) -> int:
        """The estimated cycles of a step on one device, without collectives and async copies."""
        return sum(operation.total_cycles for operation in self.operations)

    def cycles_in(self, scope: str) -> int:
        """Returns the part of `cycles` of operations inside of a jax.named_scope.

        A transformation stands around the name of a scope, as in 'jvp(teacher)'.
        """
        inside = re.compile(rf'(^|[/(]){re.escape(scope)}([/)]|$)')
        return sum(
            operation.total_cycles
            for operation in self.operations
            if inside.search(operation.op_name)
        )

    def loop_factor(self, quantity: str) -> float:
        """Returns executed 'bytes' or 'flops' divided by those with every loop run once."""
        once = sum(getattr(operation, quantity) for operation in self.operations)
        total = sum(getattr(each, quantity) * each.executions for each in self.operations)
        return total / once if once else 1.0

    @property
    def unestimated_bytes(self) -> int:
        """The bytes of operations for which the compiler gives no cycles (plain copies, slices)."""
        return sum(
            operation.bytes * operation.executions
            for operation in self.operations
            if not operation.estimated
        )

    def by_source(self) -> list[tuple[str, str, int, int]]:
        """Returns (source, op_name, executions, cycles) per source line, costliest first."""
        cycles, executions, names = collections.Counter(), collections.Counter(), {}
        for operation in self.operations:
            cycles[operation.source] += operation.total_cycles
            executions[operation.source] += operation.executions
            names.setdefault(operation.source, operation.op_name)
        return [
            (source, names[source], executions[source], total)
            for source, total in cycles.most_common()
        ]


def read_program(text: str) -> CompiledProgram:
    """Reads the program in `compiled.as_text()`; raises ValueError if it is not an HLO module."""
    module = parse(text)
    reader = _Reader(module)
    reader.walk(module.entry, 1)
    return CompiledProgram(tuple(reader.operations), tuple(reader.collectives), tuple(reader.loops))


class _Reader:
    def __init__(self, module: Module):
        self.module = module
        self.operations, self.collectives, self.loops = [], [], []
        self.cycles_of = functools.cache(self._cycles_of)

    def walk(self, computation: str, executions: int) -> None:
        begun = set()
        for instruction in self.module.computations[computation].values():
            kind = instruction.opcode.removesuffix('-start')
            if instruction.opcode == 'while':
                trips = trip_count(self.module, computation, instruction)
                self.loops.append(Loop(instruction.name, trips, executions))
                self.walk(*instruction.called('body'), executions * (1 if trips is None else trips))
            elif instruction.opcode == 'conditional':
                self.walk(self._costliest(instruction), executions)
            elif instruction.opcode in ('call', 'async-start'):
                for called in instruction.called('to_apply') or instruction.called('calls'):
                    self.walk(called, executions)
            elif kind in COLLECTIVES:
                self._add_collective(instruction, kind, executions)
            elif not self._is_free(instruction):
                self._add(computation, instruction, executions)
                if instruction.opcode == 'fusion':
                    self._collectives_inside(*instruction.called('calls'), executions, begun)

    def _is_free(self, instruction: Instruction) -> bool:
        allocates = 'custom_call_target="AllocateBuffer"' in instruction.attributes
        return allocates or instruction.opcode in _FREE or instruction.opcode.endswith('-done')

    def _add(self, computation, instruction, executions):
        cycles = instruction.estimated_cycles
        source, op_name = self.module.source(instruction)
        instructions = self.module.computations[computation]
        read = [
            sum(instructions[name].arrays) for name in instruction.operands if name in instructions
        ]
        self.operations.append(
            Operation(
                instruction.name,
                instruction.opcode,
                cycles or 0,
                sum(read) + sum(instruction.arrays),
                self._flops(computation, instruction),
                executions,
                cycles is not None,
                source,
                op_name,
            )
        )

    def _flops(self, computation, instruction):
        instructions = self.module.computations[computation]
        if instruction.opcode == 'fusion':
            (inner,) = instruction.called('calls')
            inside = self.module.computations[inner].values()
            return sum(self._flops(inner, each) for each in inside)
        if instruction.opcode not in ('convolution', 'dot'):
            return 0
        return multiply_add_flops(
            instruction, [instructions[name] for name in instruction.operands]
        )

    def _collectives_inside(self, computation, executions, begun):
        """Adds collectives that are part of a fusion, once for each channel.

        A collective that overlaps other work appears in the fusion that starts it, in those that it
        overlaps and in the fusion that ends it.
        """
        for instruction in self.module.computations[computation].values():
            kind = instruction.opcode.removesuffix('-start')
            if kind in COLLECTIVES:
                channel = instruction.attribute('channel_id')
                if channel not in begun:
                    self._add_collective(instruction, kind, executions)
                begun |= {channel} - {None}
            elif instruction.opcode == 'fusion':
                self._collectives_inside(*instruction.called('calls'), executions, begun)

    def _add_collective(self, instruction, kind, executions):
        arrays = instruction.arrays
        # The result of other -start forms holds the operand too.
        has_operand = instruction.opcode in ('all-gather-start', 'collective-permute-start')
        self.collectives.append(
            Collective(
                kind,
                max(arrays) if has_operand else sum(arrays),
                group_size(instruction.attributes),
                executions,
                self.module.source(instruction)[1],
            )
        )

    def _costliest(self, conditional: Instruction) -> str:
        branches = conditional.called('branch_computations') or [
            *conditional.called('true_computation'),
            *conditional.called('false_computation'),
        ]
        return max(branches, key=self.cycles_of)

    def _cycles_of(self, computation: str) -> int:
        reader = _Reader(self.module)
        reader.walk(computation, 1)
        return sum(operation.total_cycles for operation in reader.operations)


def group_size(attributes: str) -> int:
    """Returns the number of devices in a group of a collective; 1 if the text has no groups."""
    if named := re.search(r'replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}', attributes):
        sizes = dict(re.findall(r"'([^']*)'=(\d+)", named[1]))
        size = 1
        for axis in re.findall(r"'([^']*)'", named[2]):
            size *= int(sizes[axis])
        return size
    if iota := re.search(r'replica_groups=\[(\d+),(\d+)\]<=', attributes):
        return int(iota[2])
    if listed := re.search(r'replica_groups=\{\{([\d,]*)\}', attributes):
        return len(listed[1].split(','))
    if pairs := re.search(r'source_target_pairs=\{(.*?)\}\}', attributes):
        return len(set(re.findall(r'\d+', pairs[1])))
    return 1
