"""Time to the first batch deep in an epoch, on record sets of ImageNet's record and file sizes.

    python benchmarks/resume.py --photographs=DIR --sets=DIR

Each format is read by a process of its own, from the middle of its third epoch; the set is written
before (22 GB at 200,000 records) and deleted after. 'cold' is after the kernel was asked to forget
the set's files, 'warm' right after that. Beside the time stands that of the CPU, which suffers less
from whatever else runs; importing TensorFlow is in neither.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

from memory import input_config
from record_sets import write_record_set

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
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--photographs', required=True)
    parser.add_argument('--sets', required=True, help='directory for the record sets')
    parser.add_argument('--formats', default='array_record,tfrecord')
    parser.add_argument('--records', type=int, default=200_000)
    parser.add_argument('--batch_size', type=int, default=1024)
    parser.add_argument('--image_size', type=int, default=160)
    parser.add_argument('--measure', action='store_true', help=argparse.SUPPRESS)
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
