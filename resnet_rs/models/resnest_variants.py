"""The table of named ResNeSts, as plain data: reading it imports neither JAX nor Flax."""

# Depth: blocks per stage, width of the stem (Zhang et al. 2020, arXiv 2004.08955; 14 and 26 are
# GluonCV's).
DEPTHS = {
    14: ((1, 1, 1, 1), 32),
    26: ((2, 2, 2, 2), 32),
    50: ((3, 4, 6, 3), 32),
    101: ((3, 4, 23, 3), 64),
    200: ((3, 24, 36, 3), 64),
    269: ((3, 30, 48, 8), 64),
}
# The paper's ablations, radix 's' cardinality 'x' bottleneck width 'd', which pool before the
# split-attention convolution and so spare a GFLOP.
FAST_FORMS = ((1, 1, 64), (2, 1, 64), (4, 1, 64), (1, 2, 40), (2, 2, 40), (4, 2, 40), (1, 4, 24))

RESNEST = {
    f'resnest_{depth}': dict(stage_sizes=sizes, stem_width=stem_width)
    for depth, (sizes, stem_width) in DEPTHS.items()
} | {
    f'resnest_50_fast_{radix}s{cardinality}x{width}d': dict(
        stage_sizes=DEPTHS[50][0],
        stem_width=DEPTHS[50][1],
        radix=radix,
        cardinality=cardinality,
        bottleneck_width=width,
        pool_first=True,
    )
    for radix, cardinality, width in FAST_FORMS
}
