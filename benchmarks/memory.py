"""Resident memory of the input pipeline over a long run.

    python benchmarks/memory.py --data_dir=DIR [--batches=20000]

DIR holds a prepared set (default digits). Prints the resident memory twenty times and the growth
from a tenth of the run to its end.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--data_dir', required=True)
    parser.add_argument('--name', default='digits')
    parser.add_argument('--batches', type=int, default=20_000)
    parser.add_argument('--batch_size', type=int, default=16)
    parser.add_argument('--image_size', type=int, default=64)
    flags = parser.parse_args()

    import input_pipeline
    from resnet_rs.config import default_config

    config = default_config()
    config.data.name, config.data.data_dir = flags.name, flags.data_dir
    config.batch_size, config.data.image_size = flags.batch_size, flags.image_size
    batches = input_pipeline.train_batches(config)
    readings = []
    for number in range(1, flags.batches + 1):
        next(batches)
        if number % (flags.batches // 20) == 0:
            readings.append(resident_bytes())
            print(f'{number} batches: {readings[-1] / 1e6:.1f} MB', flush=True)
    print(f'from batch {flags.batches // 10} on: {(readings[-1] - readings[1]) / 1e6:+.1f} MB')


def resident_bytes() -> int:
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


if __name__ == '__main__':
    main()
