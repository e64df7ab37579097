"""The accounting of loops, on programs that the TPU compiler has compiled."""

import jax
import jax.numpy as jnp
import numpy as np
from helpers.tpu import needs_libtpu

from resnet_rs.plan.hlo import read_program

pytestmark = needs_libtpu
ROWS, FEATURES, TRIPS = 2048, 256, 4


def products(x, w):
    return jnp.tanh(jnp.tanh(x @ w) @ w.T).astype(jnp.float32).sum(0)


def scanned(xs, w):
    zero = jnp.zeros(FEATURES)
    return jax.lax.scan(lambda total, x: (total + products(x, w), None), zero, xs)[0]


def unrolled(xs, w):
    total = jnp.zeros(FEATURES)
    for x in xs:
        total += products(x, w)
    return total


def nested(xs, w):
    zero = jnp.zeros(FEATURES)
    return jax.lax.scan(lambda total, _: (total + scanned(xs, w), None), zero, length=3)[0]


def compiled(function, core):
    on_core = jax.sharding.SingleDeviceSharding(core.devices[0])
    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=on_core)
        for shape in ((TRIPS, ROWS, FEATURES), (FEATURES, FEATURES))
    ]
    result = jax.jit(function).lower(*shapes).compile()
    return read_program(result.as_text()), result.cost_analysis()['flops']


def test_a_loop_costs_what_its_unrolled_form_costs(v3_core):
    loop, flops_once = compiled(scanned, v3_core)
    straight, flops = compiled(unrolled, v3_core)
    twice, _ = compiled(nested, v3_core)
    assert [each.trips for each in loop.loops] == [TRIPS] and not straight.loops
    assert sorted((each.trips, each.executions) for each in twice.loops) == [(3, 1), (TRIPS, 3)]
    np.testing.assert_allclose(loop.cycles, straight.cycles, rtol=0.02)
    np.testing.assert_allclose(twice.cycles, 3 * straight.cycles, rtol=0.02)
    by_hand = TRIPS * 2 * 2 * ROWS * FEATURES**2  # two products of 2 n k m
    for program in (loop, straight):
        assert sum(each.flops * each.executions for each in program.operations) == by_hand
    np.testing.assert_allclose(flops_once * loop.loop_factor('flops'), flops, rtol=0.02)
