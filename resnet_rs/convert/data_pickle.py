"""A reader of pickles that hold only data, which runs no code of the pickle.

A pickle is a program for a stack machine. Python's own unpickler runs its calls, and more: an index
of the memo as large as 2^32 takes 16 GB, and a deeply nested key crashes the process. This reader
accepts only the few instructions that dicts, lists, tuples, numbers and text need.
Source: pickletools.py of the standard library, which also parses the instructions.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
NEW = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple}
NUMBERS_AND_TEXT = {
    'BININT',
    'BININT1',
    'BININT2',
    'LONG1',
    'INT',
    'LONG',
    'BINFLOAT',
    'FLOAT',
    'BINUNICODE',
    'SHORT_BINUNICODE',
    'UNICODE',
    'BINSTRING',
    'SHORT_BINSTRING',
    'STRING',
}
TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
REMEMBER = {'PUT', 'BINPUT', 'LONG_BINPUT'}
RECALL = {'GET', 'BINGET', 'LONG_BINGET'}
UNNEEDED = {'PROTO', 'FRAME'}


class DamagedPickleError(Exception):
    """An error in a pickle that is truncated or whose instructions are invalid."""


class ForbiddenPickleError(Exception):
    """An error in a pickle with more than data; its message names the class or instruction."""


def load(file: BinaryIO, functions: dict[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """Reads the pickle at the position of `file`, moves to its end, and returns its object.

    Args:
      file: an io.BytesIO or mmap.mmap, in which reading past the end is cheap.
      functions: {'module name': replacement}; every other name is forbidden.
      persistent: returns the object of a persistent id, such as torch's storages.

    Raises DamagedPickleError and ForbiddenPickleError.
    """
    machine = _Machine(functions, persistent)
    try:
        for instruction, argument, _ in pickletools.genops(file):
            if instruction.name == 'STOP':
                return machine.stack.pop()
            machine.do(instruction.name, argument)
    except (ForbiddenPickleError, DamagedPickleError):
        raise
    # A pickle can pass any value to any instruction and to `functions`.
    except Exception as error:
        raise DamagedPickleError(str(error) or type(error).__name__) from error
    raise DamagedPickleError('a pickle without an end')


class _Machine:
    def __init__(self, functions, persistent):
        self.stack = []
        self._marks = []
        self._memo = {}
        self._functions = functions
        self._persistent = persistent

    def do(self, name: str, argument) -> None:
        stack = self.stack
        if name in NUMBERS_AND_TEXT:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in NEW:
            stack.append(NEW[name]())
        elif name in TUPLES:
            stack.append(tuple(self._pop(TUPLES[name])))
        elif name in REMEMBER:
            self._memo[argument] = stack[-1]
        elif name == 'MEMOIZE':
            self._memo[len(self._memo)] = stack[-1]
        elif name in RECALL:
            stack.append(self._memo[argument])
        elif name == 'MARK':
            self._marks.append(len(stack))
        elif name == 'TUPLE':
            stack.append(tuple(self._pop_to_mark()))
        elif name in ('APPEND', 'APPENDS'):
            items = self._pop(1) if name == 'APPEND' else self._pop_to_mark()
            _expect(stack[-1], list).extend(items)
        elif name in ('SETITEM', 'SETITEMS'):
            self._set(self._pop(2) if name == 'SETITEM' else self._pop_to_mark())
        elif name in ('GLOBAL', 'STACK_GLOBAL'):
            wanted = argument if name == 'GLOBAL' else ' '.join(self._pop(2))
            if wanted not in self._functions:
                raise ForbiddenPickleError(wanted.replace(' ', '.'))
            stack.append(self._functions[wanted])
        elif name == 'REDUCE':
            function, arguments = self._pop(2)
            stack.append(function(*_expect(arguments, tuple)))
        elif name == 'BINPERSID':
            stack.append(self._persistent(stack.pop()))
        elif name == 'BUILD':
            # The attributes of a state dict contain the versions of its modules.
            _expect(stack[-2], dict)
            stack.pop()
        elif name not in UNNEEDED:
            raise ForbiddenPickleError(f'the instruction {name}')

    def _set(self, items):
        target = _expect(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hash of nested tuples can take for ever or overflow the stack.
            if not isinstance(key, (str, int)):
                raise DamagedPickleError('a dict with a key that is neither text nor a number')
            target[key] = value

    def _pop(self, count):
        if self._marks and len(self.stack) - count < self._marks[-1] or len(self.stack) < count:
            raise DamagedPickleError('an instruction with too few values')
        return self._cut(len(self.stack) - count)

    def _pop_to_mark(self):
        return self._cut(self._marks.pop())

    def _cut(self, start):
        cut = self.stack[start:]
        del self.stack[start:]
        return cut


def _expect(value, kind: type):
    if not isinstance(value, kind):
        raise DamagedPickleError(f'{type(value).__name__} in place of {kind.__name__}')
    return value
