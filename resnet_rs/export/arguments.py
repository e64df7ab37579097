"""The arguments that export and publish share: which network, and the images of its check."""

import argparse
import pathlib

from resnet_rs.utils.errors import checkpoint_name, positive_integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --workdir, --checkpoint, --weights, --output, --images and --check_images."""
    parser.add_argument(
        '--workdir', type=pathlib.Path, metavar='DIR', help='of a run, or of converted weights'
    )
    parser.add_argument(
        '--checkpoint',
        default='last',
        metavar='STEP',
        help="'last', 'best' or a step (default: %(default)s); or DIR, in place of --workdir=DIR",
    )
    parser.add_argument(
        '--weights', choices=['ema', 'raw'], default='ema', help='(default: %(default)s)'
    )
    parser.add_argument(
        '--output', type=pathlib.Path, required=True, metavar='FOLDER', help='must not exist'
    )
    parser.add_argument(
        '--images',
        nargs='+',
        metavar='PATH',
        help='image files, videos or folders for the check (default: the evaluation split)',
    )
    parser.add_argument(
        '--check_images',
        type=positive_integer,
        metavar='N',
        help='the most images to check (default: 256, or 8 clips)',
    )


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Returns the parsed arguments; an error ends the process with one line."""
    options = parser.parse_args(arguments)
    try:
        checkpoint_name(options.checkpoint)
    except argparse.ArgumentTypeError as error:
        if options.workdir:
            parser.error(f'argument --checkpoint: {error}')
        options.workdir, options.checkpoint = pathlib.Path(options.checkpoint), 'last'
    if not options.workdir:
        parser.error('the network is missing; name its directory as --workdir=DIR')
    return options
