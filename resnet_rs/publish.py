"""Makes a folder that is a repository of the Hugging Face Hub, from a run (docs/export.md).

    python -m resnet_rs.publish --workdir=DIR --output=FOLDER

FOLDER gets the weights in timm's layout with the config.json that timm reads, the StableHLO export,
the names of the classes, and README.md: data, recipe, and the results of this run as measured.
Nothing is uploaded; the command prints the two commands that would.
"""

import argparse
import json
import pathlib

from resnet_rs.utils.errors import (
    CommandParser,
    UserError,
    checkpoint_name,
    one_line_errors,
    positive_integer,
)
from resnet_rs.utils.platforms import skip_absent_tpu


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    options = _parser().parse_args(arguments)
    skip_absent_tpu()
    with one_line_errors(UserError):
        publish(options)


def publish(options: argparse.Namespace) -> None:
    """Writes the folder `options.output`; raises UserError and leaves nothing of it."""
    import safetensors.numpy  # JAX takes seconds

    from resnet_rs.convert import timm
    from resnet_rs.convert.weights import paths_of
    from resnet_rs.convert.workdir import check_absent, created_whole
    from resnet_rs.export import card, check, hub
    from resnet_rs.export.__main__ import export_network, images_of_files
    from resnet_rs.export.network import load_network

    check_absent(options.output)
    network = load_network(options.workdir, options.weights, options.checkpoint)
    config = hub.timm_config(network)
    state = timm.to_state_dict(paths_of(network.variables), network.model.architecture)
    if options.images:
        images = images_of_files(network, options.images, options.check_images)
    else:
        images = check.evaluation_images(network, options.check_images)
    with created_whole(options.output) as folder:
        folder.mkdir()
        exported = folder / 'stablehlo'
        exported.mkdir()
        agreement = export_network(network, 'stablehlo', exported, images)
        # safetensors itself creates files that other users cannot read.
        weights = safetensors.numpy.save(state, metadata={'format': 'pt'})
        (folder / 'model.safetensors').write_bytes(weights)
        (folder / 'config.json').write_text(json.dumps(config, indent=2, ensure_ascii=False) + '\n')
        (folder / 'class_names.txt').write_text('\n'.join(network.class_names) + '\n')
        curves = options.workdir / 'curves.png'
        if curves.exists():
            (folder / curves.name).write_bytes(curves.read_bytes())
        text = card.write(network, options.workdir, config, options.license, curves.exists())
        (folder / 'README.md').write_text(text)
    print(f'{network.config.model.name} at step {network.step} ({network.weights}): {agreement}')
    print(f'written to {options.output}; read README.md there, and then upload it:')
    print('  hf repos create NAME/REPOSITORY')
    print(f'  hf upload NAME/REPOSITORY {options.output} .')


def _parser():
    parser = CommandParser(prog='python -m resnet_rs.publish', description=__doc__)
    parser.add_argument(
        '--workdir',
        type=pathlib.Path,
        required=True,
        metavar='DIR',
        help='of a run, or of converted weights',
    )
    parser.add_argument(
        '--checkpoint',
        type=checkpoint_name,
        default='last',
        metavar='STEP',
        help="'last', 'best' or a step (default: %(default)s)",
    )
    parser.add_argument(
        '--weights', choices=['ema', 'raw'], default='ema', help='(default: %(default)s)'
    )
    parser.add_argument(
        '--output', type=pathlib.Path, required=True, metavar='FOLDER', help='must not exist'
    )
    parser.add_argument(
        '--license', default='apache-2.0', help='of the weights (default: %(default)s)'
    )
    parser.add_argument(
        '--images',
        nargs='+',
        metavar='PATH',
        help='image files or folders for the check (default: the evaluation split)',
    )
    parser.add_argument(
        '--check_images',
        type=positive_integer,
        default=256,
        metavar='N',
        help='the most images to check (default: %(default)s)',
    )
    return parser


if __name__ == '__main__':
    main()
