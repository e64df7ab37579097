"""Size and CPU time of a network in each exported format, beside jit.

    python benchmarks/export_formats.py --workdir=DIR --exports=FOLDER [--check_images=N]

Exports the network to every format, unless FOLDER holds the exports of an earlier call, and times
batches of 1 and 8 images, each format in a process of its own on one core. A table has the least
CPU time of several runs, beside that of jit, whose weights are arguments. Linux.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
BATCHES = (1, 8)
SECONDS, FEWEST_RUNS = 2, 5  # of each batch
VARIANTS = {
    'jit': None,
    'stablehlo': ('stablehlo',),
    'stablehlo, weights beside it': ('stablehlo', '--separate_weights'),
    'saved_model': ('saved_model',),
    'onnx': ('onnx',),
    'tflite float32': ('tflite',),
    'tflite float16': ('tflite', '--precision=float16'),
    'tflite int8': ('tflite', '--precision=int8'),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--workdir', required=True)
    parser.add_argument('--exports', required=True, type=pathlib.Path)
    parser.add_argument('--check_images', default='64', help='for the checks (%(default)s)')
    parser.add_argument('--time', help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.time:
        print(json.dumps(times(flags.workdir, flags.time, flags.exports)))
        return
    for name, variant in VARIANTS.items():
        folder = flags.exports / name.replace(', ', '_').replace(' ', '_')
        if variant and not folder.exists():
            print(f'{name}: {export(flags, variant, folder)}', flush=True)
    print()
    print('| format | bytes | CPU ms, batch 1 | batch 8 | beside jit, batch 1 | batch 8 |')
    print('|---|---|---|---|---|---|')
    of_jit = None
    for name, variant in VARIANTS.items():
        folder = flags.exports / name.replace(', ', '_').replace(' ', '_')
        if variant and not folder.exists():
            continue
        command = [sys.executable, __file__, f'--workdir={flags.workdir}', f'--exports={folder}']
        format = variant[0] if variant else 'jit'
        output = subprocess.check_output([*command, f'--time={format}'])
        found = json.loads(output.splitlines()[-1])
        of_jit = of_jit or found
        size = f'{size_of(folder):,}' if variant else ''
        cells = [name, size, *(f'{1000 * seconds:.1f}' for seconds in found)]
        cells += [f'{a / b:.2f}' for a, b in zip(found, of_jit, strict=True)]
        print(f'| {" | ".join(cells)} |', flush=True)


def export(flags, variant, folder) -> str:
    """Exports with the command; returns the line of its check, or of its error."""
    options = [f'--workdir={flags.workdir}', f'--check_images={flags.check_images}']
    command = [sys.executable, '-m', 'resnet_rs.export', *options, f'--output={folder}']
    format, *others = variant
    done = subprocess.run(
        [*command, f'--format={format}', *others], cwd=ROOT, capture_output=True, text=True
    )
    lines = (done.stderr if done.returncode else done.stdout).splitlines()
    return lines[-1] if done.returncode else lines[1].strip()


def size_of(folder: pathlib.Path) -> int:
    """Returns the bytes of the exported files, without those of export.json."""
    files = json.loads((folder / 'export.json').read_text())['files']
    return sum(file['bytes'] for file in files.values())


def times(workdir: str, format: str, folder: pathlib.Path) -> list[float]:
    """Returns the least CPU seconds of a batch of 1 and of 8 images, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import numpy as np

    if format == 'jit':
        import jax

        from resnet_rs.export.network import load_network

        network = load_network(pathlib.Path(workdir), 'ema', 'last')
        size, step = network.image_size, jax.jit(network.logits)

        def call(images):
            return step(network.variables, images)
    else:
        from resnet_rs.export.reader import READERS

        size = json.loads((folder / 'export.json').read_text())['preprocessing']['image_size']
        call = READERS[format](folder)
    found = []
    for batch in BATCHES:
        images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
        np.asarray(call(images))
        runs, begin = [], time.process_time()
        while len(runs) < FEWEST_RUNS or time.process_time() - begin < SECONDS:
            before = time.process_time()
            np.asarray(call(images))
            runs.append(time.process_time() - before)
        found.append(min(runs))
    return found


if __name__ == '__main__':
    main()
