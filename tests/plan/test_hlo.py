"""The reader of compiled programs on small texts written by hand."""

import pytest

from resnet_rs.plan.hlo import group_size, read_program

TAIL = 'backend_config={"window_config":{"estimated_cycles":"%d"}}'


def fusion(name, shape, operands, cycles, calls='inner', root=False):
    start = f'  {"ROOT " if root else ""}%{name} = {shape} fusion({operands}), '
    return f'{start}kind=kLoop, calls=%{calls}, metadata={{op_name="{name}"}}, {TAIL % cycles}'


INNER = """
%inner (p: f32[8]) -> f32[8] {
  %p = f32[8]{0:T(256)} parameter(0)
  ROOT %n = f32[8]{0:T(256)} negate(%p), backend_config={"estimated_cycles":"999"}
}
"""


def loop(name, trips, body, *, start=0, step=1, direction='LT'):
    """A while over (counter, array): its two computations, and the lines that run it."""
    pair = '(s32[]{:T(256)}, f32[8]{0:T(256)})'
    computations = f"""
%{name}.condition (p: (s32[], f32[8])) -> pred[] {{
  %limit = s32[]{{:T(256)}} constant({trips})
  %p = {pair} parameter(0)
  %counter = s32[]{{:T(256)}} get-tuple-element(%p), index=0
  ROOT %less = pred[]{{:T(1024)}} compare(%counter, %limit), direction={direction}
}}

%{name}.body (p: (s32[], f32[8])) -> (s32[], f32[8]) {{
  %p = {pair} parameter(0)
  %counter = s32[]{{:T(256)}} get-tuple-element(%p), index=0
  %one = s32[]{{:T(256)}} constant({step})
  %next = s32[]{{:T(256)}} add(%counter, %one)
  %x = f32[8]{{0:T(256)}} get-tuple-element(%p), index=1
{body}
  ROOT %out = {pair} tuple(%next, %y)
}}
"""
    lines = f"""  %{name}.zero = s32[]{{:T(256)}} constant({start})
  %{name}.copy = s32[]{{:T(256)}} copy(%{name}.zero)
  %{name}.tuple = {pair} tuple(%{name}.copy, %x)
  %{name} = {pair} while(%{name}.tuple), condition=%{name}.condition, body=%{name}.body
  %y = f32[8]{{0:T(256)}} get-tuple-element(%{name}), index=1"""
    return computations, lines


def module(computations, lines):
    return f"""HloModule jit_step, is_scheduled=true
{INNER}{computations}
ENTRY %main (x: f32[8]) -> f32[8] {{
  %x = f32[8]{{0:T(256)}} parameter(0)
{lines}
}}
"""


def test_cycles_of_a_fusion_are_counted_once():
    program = read_program(module('', fusion('a', 'f32[8]{0:T(256)}', '%x', 70, root=True)))
    (operation,) = program.operations
    assert (operation.cycles, operation.executions, operation.op_name) == (70, 1, 'a')
    assert operation.bytes == 2 * 8 * 4  # reads and writes f32[8]
    assert program.cycles == 70  # and not the 999 of what lies inside


@pytest.mark.parametrize(
    'settings, trips',
    [
        (dict(trips=5), 5),
        (dict(trips=5, start=2), 3),
        (dict(trips=10, step=3), 4),  # 0, 3, 6, 9
        (dict(trips=9, step=3), 3),
        (dict(trips=9, step=3, direction='LE'), 4),
        (dict(trips=-1, start=4, step=-1, direction='GT'), 5),
        (dict(trips=0, start=4, step=-1, direction='GE'), 5),
        (dict(trips=6, step=2, direction='NE'), 3),
        (dict(trips=0), 0),
    ],
)
def test_trips_of_a_loop(settings, trips):
    body = fusion('y', 'f32[8]{0:T(256)}', '%x', 10)
    program = read_program(module(*loop('while', body=body, **settings)))
    (found,) = program.loops
    assert found.trips == trips
    counted = {operation.name: operation.executions for operation in program.operations}
    assert counted['y'] == trips and counted['while.copy'] == 1
    assert program.cycles == 10 * trips


def test_a_loop_within_a_loop():
    inner, lines = loop('deep', 3, fusion('y', 'f32[8]{0:T(256)}', '%x', 10))
    outer, entry = loop('wide', 4, f'{lines}\n{fusion("z", "f32[8]{0}", "%x", 7)}')
    program = read_program(module(inner + outer, entry))
    assert program.cycles == 4 * (3 * 10 + 7)
    assert [(each.name, each.trips, each.executions) for each in program.loops] == [
        ('wide', 4, 1),
        ('deep', 3, 4),
    ]


def test_a_limit_that_is_carried_through_the_loop_and_a_compare_in_a_fusion():
    triple = '(s32[], s32[], f32[8])'
    text = module(
        f"""
%less (a: s32[], b: s32[]) -> pred[] {{
  %b = s32[] parameter(1)
  %a = s32[] parameter(0)
  ROOT %compare = pred[] compare(%a, %b), direction=LT
}}

%plus (a: s32[]) -> s32[] {{
  %a = s32[] parameter(0)
  %two = s32[] constant(2)
  ROOT %add = s32[] add(%two, %a)
}}

%condition (p: {triple}) -> pred[] {{
  %p = {triple} parameter(0)
  %counter = s32[] get-tuple-element(%p), index=0
  %limit = s32[] get-tuple-element(%p), index=1
  ROOT %fused = pred[] fusion(%counter, %limit), kind=kLoop, calls=%less
}}

%body (p: {triple}) -> {triple} {{
  %p = {triple} parameter(0)
  %counter = s32[] get-tuple-element(%p), index=0
  %next = s32[] fusion(%counter), kind=kLoop, calls=%plus
  %limit = s32[] get-tuple-element(%p), index=1
  %x = f32[8] get-tuple-element(%p), index=2
{fusion('y', 'f32[8]', '%x', 10)}
  ROOT %out = {triple} tuple(%next, %limit, %y)
}}
""",
        f"""  %zero = s32[] constant(0)
  %seven = s32[] constant(7)
  %start = {triple} tuple(%zero, %seven, %x)
  ROOT %while = {triple} while(%start), condition=%condition, body=%body""",
    )
    program = read_program(text)
    assert [each.trips for each in program.loops] == [4]  # 0, 2, 4, 6
    assert program.cycles == 40


def test_a_loop_without_a_constant_limit_is_unknown_and_counted_once():
    computations, lines = loop('while', 5, fusion('y', 'f32[8]{0:T(256)}', '%x', 10))
    text = module(computations, lines)
    program = read_program(text.replace('constant(5)', 'custom-call(), custom_call_target="f"'))
    assert [each.trips for each in program.loops] == [None] and program.cycles == 10


def test_calls_and_async_computations_are_entered_and_a_conditional_takes_the_costliest_branch():
    text = module(
        f"""
%cheap (p: f32[8]) -> f32[8] {{
  %p = f32[8] parameter(0)
{fusion('a', 'f32[8]', '%p', 5, root=True)}
}}

%dear (p: f32[8]) -> f32[8] {{
  %p = f32[8] parameter(0)
{fusion('b', 'f32[8]', '%p', 50, root=True)}
}}
""",
        """  %which = s32[] constant(0)
  %c = f32[8] call(%x), to_apply=%cheap
  %d = f32[8] conditional(%which, %c, %c), branch_computations={%cheap, %dear}
  %e = ((f32[8]), f32[8], u32[]) async-start(%d), calls=%cheap
  ROOT %f = f32[8] async-done(%e)""",
    )
    program = read_program(text)
    assert program.cycles == 5 + 50 + 5


def test_collectives_and_what_has_no_estimate():
    text = module(
        '',
        """
  %r = (f32[8]{0:T(256)}, /*index=1*/bf16[4,2]{1,0:T(8,128)(2,1)}) all-reduce(%x, %x), \
replica_groups=mesh['axis_0'=8] {'axis_0'}, to_apply=%sum, metadata={op_name="gradients"}
  %g = (f32[8], f32[32]) all-gather-start(%x), replica_groups={{0,1,2,3},{4,5,6,7}}
  %h = f32[32] all-gather-done(%g)
  %room = f32[1024] custom-call(), custom_call_target="AllocateBuffer"
  ROOT %moved = f32[32] copy(%h)""",
    )
    program = read_program(text)
    found = [
        (each.kind, each.bytes, each.group_size, each.executions) for each in program.collectives
    ]
    assert found == [('all-reduce', 8 * 4 + 8 * 2, 8, 1), ('all-gather', 32 * 4, 4, 1)]
    assert program.collectives[0].op_name == 'gradients'
    assert program.unestimated_bytes == 2 * 32 * 4 and program.cycles == 0


def test_a_collective_that_several_fusions_carry_counts_once():
    def gathering(name, channel):
        return f"""
%{name} (p: f32[8]) -> f32[32] {{
  %p = f32[8] parameter(0)
  ROOT %g = f32[32] all-gather(%p), channel_id={channel}, replica_groups=[1,4]<=[4]
}}
"""

    names = [('start', 7), ('beside', 7), ('done', 7), ('other', 8)]
    text = module(
        ''.join(gathering(*each) for each in names),
        '\n'.join(fusion(f'f.{name}', 'f32[32]', '%x', 10, calls=name) for name, _ in names),
    )
    program = read_program(text)
    assert [(each.bytes, each.executions) for each in program.collectives] == [(128, 1)] * 2
    assert program.cycles == 40


@pytest.mark.parametrize(
    'text, size',
    [
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%sum", 4),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", 8),
        ('replica_groups=[2,16]<=[32], dimensions={0}', 16),
        ('replica_groups={{0,2},{1,3}}', 2),
        ('source_target_pairs={{0,1},{1,2},{2,0}}', 3),
    ],
)
def test_group_sizes(text, size):
    assert group_size(text) == size


def test_the_source_is_the_innermost_line_outside_installed_packages():
    lines = fusion('a', 'f32[8]', '%x', 1, root=True)
    text = module('', lines.replace('op_name="a"', 'op_name="a" stack_frame_id=3'))
    tables = """HloModule jit_step

FileNames
1 "/home/me/model.py"
2 "/venv/lib/python3.11/site-packages/flax/linear.py"

FunctionNames
1 "f"

FileLocations
1 {file_name_id=1 function_name_id=1 line=12 end_line=12 column=1 end_column=2}
2 {file_name_id=2 function_name_id=1 line=700 end_line=701 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=2 parent_frame_id=3}
"""
    program = read_program(text.replace('HloModule jit_step, is_scheduled=true\n', tables))
    assert [operation.source for operation in program.operations] == ['/home/me/model.py:12']
    assert program.by_source() == [('/home/me/model.py:12', 'a', 1, 1)]


def test_text_that_is_no_module():
    with pytest.raises(ValueError, match='ENTRY'):
        read_program('error: no such file')
