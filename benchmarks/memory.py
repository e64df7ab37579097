"""Resident memory of the input pipeline over a long run on ImageNet-sized images.

    python benchmarks/memory.py --photographs=DIR --sets=DIR [--formats=tfrecord]

DIR/train/CLASS/*.JPEG is what benchmarks/input_pipeline.py writes (DIR/images there); the sets are
written where they are not there. Each format is read by a process of its own, with RandAugment.
Prints the resident memory of the process twenty times, above what it was before the pipeline was
opened, and the stated budget beside it.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from record_sets import NAME, write_record_set  # noqa: E402


def main():
    flags = parse_flags()
    for file_format in flags.formats.split(','):
        directory = pathlib.Path(flags.sets) / file_format
        write_record_set(directory, pathlib.Path(flags.photographs), file_format, flags.records)
        if flags.measure:
            measure(directory, flags)
        else:
            arguments = [*sys.argv, f'--formats={file_format}', '--measure']
            subprocess.run([sys.executable, *arguments], check=True)


def parse_flags():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--photographs', required=True)
    parser.add_argument('--sets', required=True, help='directory for the record sets')
    parser.add_argument('--formats', default='array_record,tfrecord')
    parser.add_argument('--records', type=int, default=4000)
    parser.add_argument('--batches', type=int, default=20_000)
    parser.add_argument('--batch_size', type=int, default=8)
    parser.add_argument('--image_size', type=int, default=64)
    parser.add_argument('--measure', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(directory: pathlib.Path, flags) -> None:
    """Reads `flags.batches` batches of the set and prints what the process holds."""
    import input_pipeline

    config = input_config(directory, flags.batch_size, flags.image_size)
    before = resident_bytes()
    started = time.monotonic()
    batches = input_pipeline.train_batches(config)
    print(
        f'{flags.formats}: {batches.memory.text}\n'
        f'{before / 1e6:.0f} MB before the pipeline was opened'
    )
    readings = []
    for number in range(1, flags.batches + 1):
        next(batches)
        if number % (flags.batches // 20) == 0:
            readings.append(resident_bytes() - before)
            print(
                f'{number} batches, {time.monotonic() - started:.0f} s: '
                f'{readings[-1] / 1e6:.0f} MB of {batches.memory.total / 1e6:.0f} MB planned',
                flush=True,
            )
    print(
        f'from batch {flags.batches // 10} on: {(readings[-1] - readings[1]) / 1e6:+.1f} MB',
        flush=True,
    )


def input_config(directory: pathlib.Path, batch_size: int, image_size: int):
    """The recipe's input from a record set; its only split serves as that of evaluation too."""
    from resnet_rs.config import default_config

    config = default_config()
    config.data.name, config.data.data_dir = NAME, str(directory)
    config.data.eval_split = 'train'
    config.batch_size, config.data.image_size = batch_size, image_size
    return config


def resident_bytes() -> int:
    """Returns the bytes of this process's own data; pages of libraries come and go."""
    status = pathlib.Path('/proc/self/status').read_text()
    (kilobytes,) = re.findall(r'RssAnon:\s+(\d+) kB', status)
    return 1024 * int(kilobytes)


if __name__ == '__main__':
    main()
