"""Measures the time to the first batch deep in an epoch, on sets with ImageNet's record sizes.

    python benchmarks/resume.py --photographs=DIR --sets=DIR

A separate process reads each format from the middle of its third epoch. The benchmark writes the
set before (22 GB at 200,000 records) and deletes it afterwards. 'cold' is measured after the kernel
dropped the set's files from memory, 'warm' right after that. CPU time depends less on other work
on the machine than wall time; neither includes importing TensorFlow.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

from memory import input_config
from record_sets import create_parser, write_record_set

BARS = {'array_record': 5, 'tfrecord': 20}  # seconds
EPOCHS = 2.5


def main():
    flags = parse_flags()
    if flags.measure:
        return measure(pathlib.Path(flags.sets) / flags.formats, flags)
    for file_format in flags.formats.split(','):
        directory = pathlib.Path(flags.sets) / file_format
        write_record_set(directory, pathlib.Path(flags.photographs), file_format, flags.records)
        for state in ('cold', 'warm'):
            if state == 'cold':
                forget(directory)
            arguments = [*sys.argv, f'--formats={file_format}', '--measure', f'--state={state}']
            subprocess.run([sys.executable, *arguments], check=True)
        shutil.rmtree(directory)


def parse_flags():
    sizes = dict(records=200_000, batch_size=1024, image_size=160)
    parser = create_parser(__doc__.partition('\n')[0], **sizes)
    parser.add_argument('--state', default='', help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(directory: pathlib.Path, flags) -> None:
    begun = time.monotonic()
    import input_pipeline

    imported, imported_cpu = time.monotonic(), time.process_time()
    config = input_config(directory, flags.batch_size, flags.image_size)
    examples = input_pipeline.dataset_info(config).split('train').num_examples
    step = int(EPOCHS * examples / flags.batch_size)
    batches = input_pipeline.train_batches(config, first_step=step)
    next(batches)
    seconds, cpu = time.monotonic() - imported, time.process_time() - imported_cpu
    read = int(pathlib.Path('/proc/self/io').read_text().split('rchar: ')[1].split()[0])
    print(
        f'{flags.formats}, {flags.state}: {seconds:.1f} s from the dataset to the first batch of '
        f'{flags.batch_size}, at step {step} of {examples:,} examples (asked for: under '
        f'{BARS[flags.formats]} s), {cpu:.1f} s of CPU, {read / 1e9:.2f} GB read; the imports '
        f'took {imported - begun:.1f} s before',
        flush=True,
    )


def forget(directory: pathlib.Path) -> None:
    """Asks the kernel to drop the files' pages from memory."""
    os.sync()
    for path in directory.rglob('*'):
        if path.is_file():
            with path.open('rb') as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == '__main__':
    main()
