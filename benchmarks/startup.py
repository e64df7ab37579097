"""The parts of a start, in seconds: from the command to the end of the first training step.

    python benchmarks/startup.py [--config=configs/digits.py] [--data_dir=DIR]

Starts two processes with one cache of compiled programs, empty for the first, and prints the
seconds of each part in both. The parts are those of a run, in the order of train_lib.py; a config
whose dataset is not there is measured on a batch of noise (--noise).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--config', default='configs/digits.py')
    parser.add_argument('--data_dir')
    parser.add_argument('--batch_size', type=int)
    parser.add_argument('--dtype')
    parser.add_argument('--noise', action='store_true', help='a batch of noise, no dataset')
    parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        print(json.dumps(parts(flags)))
        return
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, *sys.argv, '--child']
        environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': directory}
        first, second = (
            json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])
            for _ in range(2)
        )
    print('| part | first start, s | second start, s |\n|---|---|---|')
    for name in first:
        print(f'| {name} | {first[name]:.1f} | {second[name]:.1f} |')
    print(f'| all | {sum(first.values()):.1f} | {sum(second.values()):.1f} |')


def parts(flags) -> dict[str, float]:
    """Returns the seconds of each part of a start, measured in this process."""
    seconds, begin = {}, time.perf_counter()

    def done(name):
        nonlocal begin
        now = time.perf_counter()
        seconds[name], begin = now - begin, now

    from ml_collections import config_flags  # noqa: F401

    from resnet_rs.utils import platforms

    platforms.use_cpu()
    import jax

    import input_pipeline
    import train_lib
    from resnet_rs import latency
    from resnet_rs.run import preflight
    from resnet_rs.training.sharding import create_mesh, to_global
    from resnet_rs.utils import compilation_cache

    compilation_cache.enable()
    done('imports')

    config = load_config(flags)
    mesh = create_mesh()
    examples = latency.EXAMPLES_PER_EPOCH
    if not flags.noise:
        info = preflight.check_config(config, tempfile.mkdtemp())
        examples = info.split(config.data.train_split).num_examples
    program = train_lib.create_program(config, mesh, examples)
    done('checks, shapes of the program')

    batch = to_global(latency.synthetic_batch(config), mesh)
    shapes = train_lib.batch_shapes(config, 'train')
    step = program.train_step.lower(program.state, shapes, program.frozen).compile()
    done('compiling the training step')
    program.eval_step.lower(
        {name: program.state.variables for name in ('raw', 'ema')},
        train_lib.batch_shapes(config, 'eval'),
    ).compile()
    done('compiling the evaluation step')

    state = jax.block_until_ready(program.init())
    done('first weights and state')

    if not flags.noise:
        batch = to_global(next(input_pipeline.train_batches(config)), mesh)
        done('dataset, first batch')
    jax.block_until_ready(step(state, batch, {}))
    done('first step')
    return seconds


def load_config(flags):
    import importlib.util

    path, _, argument = flags.config.partition(':')
    spec = importlib.util.spec_from_file_location('config', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(*([argument] if argument else []))
    with config.unlocked():
        if flags.batch_size:
            config.batch_size = config.eval.batch_size = flags.batch_size
        if flags.dtype:
            config.model.dtype = flags.dtype
        if flags.data_dir:
            config.data.data_dir = flags.data_dir
    return config


if __name__ == '__main__':
    main()
