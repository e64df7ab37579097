"""Size and CPU time of a network in each exported format, beside jit.

    python benchmarks/export_formats.py --workdir=DIR [--image_size=N] [--images=PATH ...]

Exports the network to every format whose libraries are there, and times batches of 1 and 8 images,
each format in a process of its own on one core: the smallest of several runs and the ratio to jit.
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
REPEATS = 10
VARIANTS = {
    'jit': None,
    'stablehlo': ['--format=stablehlo'],
    'stablehlo, weights beside it': ['--format=stablehlo', '--separate_weights'],
    'saved_model': ['--format=saved_model'],
    'tflite float32': ['--format=tflite'],
    'tflite float16': ['--format=tflite', '--precision=float16'],
    'tflite int8': ['--format=tflite', '--precision=int8'],
    'onnx': ['--format=onnx'],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--workdir', required=True)
    parser.add_argument('--image_size', type=int)
    parser.add_argument('--images', nargs='+')
    parser.add_argument('--time', nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.time:
        print(json.dumps(times(flags.workdir, *flags.time)))
        return
    options = [f'--workdir={flags.workdir}']
    options += [f'--image_size={flags.image_size}'] if flags.image_size else []
    options += ['--images', *flags.images] if flags.images else []
    print('| format | bytes | greatest difference | batch 1, ms | batch 8, ms | beside jit |')
    print('|---|---|---|---|---|---|')
    of_jit = None
    with tempfile.TemporaryDirectory() as directory:
        for number, (name, variant) in enumerate(VARIANTS.items()):
            folder = pathlib.Path(directory) / str(number)
            size = difference = ''
            if variant:
                command = [sys.executable, '-m', 'resnet_rs.export', f'--output={folder}']
                done = subprocess.run(
                    [*command, *variant, *options], cwd=ROOT, capture_output=True, text=True
                )
                if done.returncode:
                    print(f'| {name} | {done.stderr.strip().splitlines()[-1]} | | | | |')
                    continue
                about = json.loads((folder / 'export.json').read_text())
                size = f'{sum(file["bytes"] for file in about["files"].values()):,}'
                difference = f'{about["check"]["difference"]:.1e}'
            format = variant[0].removeprefix('--format=') if variant else 'jit'
            side = str(flags.image_size or 0)
            command = [sys.executable, __file__, f'--workdir={flags.workdir}']
            output = subprocess.check_output([*command, '--time', format, str(folder), side])
            found = json.loads(output.splitlines()[-1])
            of_jit = of_jit or found
            ratios = ', '.join(f'{a / b:.2f}' for a, b in zip(found, of_jit, strict=True))
            first, second = (f'{1000 * seconds:.1f}' for seconds in found)
            print(f'| {name} | {size} | {difference} | {first} | {second} | {ratios} |', flush=True)


def times(workdir: str, format: str, folder: str, side: str) -> list[float]:
    """Returns the smallest seconds of batches of 1 and 8 images, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np

    from resnet_rs.export.network import load_network
    from resnet_rs.export.reader import READERS

    network = load_network(pathlib.Path(workdir), 'ema', 'last', image_size=int(side) or None)
    if format == 'jit':
        import jax

        step = jax.jit(network.logits)

        def call(images):
            return step(network.variables, images)
    else:
        call = READERS[format](pathlib.Path(folder))
    found = []
    for batch in (1, 8):
        shape = (batch, network.image_size, network.image_size, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        np.asarray(call(images))
        runs = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            np.asarray(call(images))
            runs.append(time.perf_counter() - begin)
        found.append(min(runs))
    return found


if __name__ == '__main__':
    main()
