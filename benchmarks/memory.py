"""Measures the resident memory of the input pipeline over a long run on ImageNet-sized images.

    python benchmarks/memory.py --photographs=DIR --sets=DIR [--formats=tfrecord]

benchmarks/input_pipeline.py writes DIR/train/CLASS/*.JPEG (as its DIR/images); this benchmark
writes missing sets. A separate process reads each format, with RandAugment. It prints twenty times
how much its resident memory has grown since before the pipeline, next to the planned memory.
"""

import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from record_sets import NAME, create_parser, write_record_set  # noqa: E402


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
    sizes = dict(records=4000, batches=20_000, batch_size=8, image_size=64)
    return create_parser(__doc__.partition('\n')[0], **sizes).parse_args()


def measure(directory: pathlib.Path, flags) -> None:
    """Reads `flags.batches` batches of the set and prints the memory of the process."""
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
    """Returns the recipe's configuration for a record set, whose only split has both purposes."""
    from resnet_rs.config import default_config

    config = default_config()
    config.data.name, config.data.data_dir = NAME, str(directory)
    config.data.eval_split = 'train'
    config.batch_size, config.data.image_size = batch_size, image_size
    return config


def resident_bytes() -> int:
    """Returns the bytes of this process's own data, without the pages of libraries."""
    status = pathlib.Path('/proc/self/status').read_text()
    (kilobytes,) = re.findall(r'RssAnon:\s+(\d+) kB', status)
    return 1024 * int(kilobytes)


if __name__ == '__main__':
    main()
