"""Trip counts of the loops of a compiled module.

The text of a TPU program does not state them, so they are derived from the loop's condition (a
comparison with a constant), and from the first value and the increment of its counter.
"""

import dataclasses
import re

from resnet_rs.plan.hlo_text import Instruction, Module

_PASSES_ON = ('copy', 'bitcast', 'convert', 'reshape', 'copy-start', 'copy-done')
_NEGATED = {'LT': 'GE', 'LE': 'GT', 'GT': 'LE', 'GE': 'LT', 'NE': 'EQ', 'EQ': 'NE'}
_MIRRORED = {'LT': 'GT', 'LE': 'GE', 'GT': 'LT', 'GE': 'LE', 'NE': 'NE', 'EQ': 'EQ'}


@dataclasses.dataclass(frozen=True)
class _Scope:
    """A computation with the arguments of its parameters, which `caller` resolves."""

    computation: str
    arguments: tuple[Instruction, ...] = ()
    caller: '_Scope | None' = None


def trip_count(module: Module, computation: str, loop: Instruction) -> int | None:
    """Returns how often the body of `loop`, a while instruction, runs; None if unknown."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known[1])
    (condition,) = loop.called('condition')
    (body,) = loop.called('body')
    compare = _counter_and_limit(module, condition)
    if compare is None:
        return None
    index, direction, limit = compare
    outside = _Scope(computation)
    if isinstance(limit, tuple):  # the loop carries it unchanged
        limit = _constant(module, outside, _element(module, outside, loop, limit[0]))
    start = _constant(module, outside, _element(module, outside, loop, index))
    step = _step(module, body, index)
    if None in (start, step, limit) or step == 0:
        return None
    if direction == 'NE':
        return (limit - start) // step if (limit - start) % step == 0 else None
    if direction in ('GT', 'GE'):
        start, step, limit = -start, -step, -limit
    elif direction not in ('LT', 'LE'):
        return None
    if step < 0:
        return None
    return max(0, -(-(limit + direction.endswith('E') - start) // step))


def _counter_and_limit(module, condition):
    """Returns (element of the loop's tuple, direction, constant or (element,)) of a condition."""
    scope, root = _resolve(module, _Scope(condition), module.root(condition))
    negated = False
    while root is not None and root.opcode == 'not':
        negated = not negated
        scope, root = _resolve(module, scope, _operand(module, scope, root, 0))
    if root is None or root.opcode != 'compare':
        return None
    direction = root.attribute('direction')
    direction = _NEGATED[direction] if negated else direction
    sides = [_value(module, scope, _operand(module, scope, root, side)) for side in (0, 1)]
    if isinstance(sides[1], tuple) and not isinstance(sides[0], tuple):
        sides, direction = sides[::-1], _MIRRORED[direction]
    counter, limit = sides
    if not isinstance(counter, tuple) or limit is None:
        return None
    return *counter, direction, limit


def _value(module, scope, instruction):
    """Returns an integer, (element,) of the parameter of the outermost scope, or None."""
    scope, found = _resolve(module, scope, instruction)
    if found is None:
        return None
    if found.opcode == 'constant':
        return _integer(found)
    if found.opcode == 'get-tuple-element' and scope.caller is None:
        of = _resolve(module, scope, _operand(module, scope, found, 0))[1]
        return (int(found.attribute('index')),) if of and of.opcode == 'parameter' else None
    return None


def _step(module, body, index):
    """Returns the increment of element `index` of the tuple per iteration."""
    scope = _Scope(body)
    scope, added = _resolve(module, scope, _element(module, scope, None, index))
    if added is None or added.opcode not in ('add', 'subtract'):
        return None
    values = [_value(module, scope, _operand(module, scope, added, side)) for side in (0, 1)]
    if values[0] == (index,) and isinstance(values[1], int):
        return values[1] if added.opcode == 'add' else -values[1]
    if values[1] == (index,) and isinstance(values[0], int) and added.opcode == 'add':
        return values[0]
    return None


def _element(module, scope, loop, index):
    """Returns element `index` of the input of `loop`, or else of the computation's result."""
    made = _operand(module, scope, loop, 0) if loop else module.root(scope.computation)
    scope, made = _resolve(module, scope, made)
    if made is None or made.opcode != 'tuple':
        return None
    return _operand(module, scope, made, index)


def _constant(module, scope, instruction):
    value = _value(module, scope, instruction) if instruction else None
    return value if isinstance(value, int) else None


def _resolve(module, scope, instruction):
    """Follows an instruction to the origin of its value, through copies, fusions and tuples."""
    while instruction is not None:
        if instruction.opcode in _PASSES_ON:
            instruction = _operand(module, scope, instruction, 0)
        elif instruction.opcode in ('fusion', 'call'):
            (inner,) = instruction.called('calls') or instruction.called('to_apply')
            count = len(instruction.operands)
            operands = tuple(_operand(module, scope, instruction, side) for side in range(count))
            scope, instruction = _Scope(inner, operands, scope), module.root(inner)
        elif instruction.opcode == 'parameter' and scope.caller is not None:
            number, scope_of_argument = int(instruction.literal), scope.caller
            instruction, scope = scope.arguments[number], scope_of_argument
        elif instruction.opcode == 'get-tuple-element':
            of_scope, made = _resolve(module, scope, _operand(module, scope, instruction, 0))
            if made is None or made.opcode != 'tuple':
                break
            index = int(instruction.attribute('index'))
            scope, instruction = of_scope, _operand(module, of_scope, made, index)
        else:
            break
    return scope, instruction


def _operand(module, scope, instruction, side):
    return module.computations[scope.computation].get(instruction.operands[side])


def _integer(constant):
    return int(constant.literal) if re.fullmatch(r'-?\d+', constant.literal) else None
