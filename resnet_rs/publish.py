"""Makes a folder that is a repository of the Hugging Face Hub, from a run (docs/export.md).

    python -m resnet_rs.publish --workdir=DIR --output=FOLDER

FOLDER gets the weights in timm's layout with the config.json that timm reads, the StableHLO export,
the names of the classes, and README.md: data, recipe, and the results of this run as measured.
Nothing is uploaded; the command prints the two commands that would.
"""

import argparse
import json
import shlex

from resnet_rs.export.arguments import add_arguments, parse
from resnet_rs.utils.errors import CommandParser, UserError, one_line_errors
from resnet_rs.utils.files import check_absent, created_whole, make_readable
from resnet_rs.utils.log_lines import log_for_people
from resnet_rs.utils.platforms import skip_absent_tpu


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    options = parse(_parser(), arguments)
    skip_absent_tpu()
    with one_line_errors(UserError, OSError):
        publish(options)


def publish(options: argparse.Namespace) -> None:
    """Writes the folder `options.output`; raises UserError and leaves nothing of it."""
    import safetensors.numpy  # JAX takes seconds

    from resnet_rs.export import card, check
    from resnet_rs.export.__main__ import export_network
    from resnet_rs.export.network import check_takes_images, load_network
    from resnet_rs.export.timm_config import timm_config, timm_state

    check_absent(options.output)
    check_takes_images(options.workdir, 'a folder that timm reads')
    network = load_network(options.workdir, options.weights, options.checkpoint)
    config = timm_config(network)
    state = timm_state(network)
    images = check.images_for(network, options.images, options.check_images)
    with created_whole(options.output) as folder:
        exported = folder / 'stablehlo'
        exported.mkdir(parents=True)
        agreement = export_network(network, 'stablehlo', exported, images)
        weights = safetensors.numpy.save(state, metadata={'format': 'pt'})
        (folder / 'model.safetensors').write_bytes(weights)
        (folder / 'config.json').write_text(json.dumps(config, indent=2, ensure_ascii=False) + '\n')
        (folder / 'class_names.txt').write_text('\n'.join(config['label_names']) + '\n')
        curves = card.write_curves(options.workdir, folder)
        pretrained = config['pretrained_cfg']
        text = card.text(network, options.workdir, pretrained, options.license, agreement, curves)
        (folder / 'README.md').write_text(text)
        make_readable(folder)
    print(f'{network.config.model.name} at step {network.step} ({network.weights}): {agreement}')
    print(f'written to {options.output}; read README.md there, and then upload it:')
    print('  hf repos create NAME/REPOSITORY')
    print(f'  hf upload NAME/REPOSITORY {shlex.quote(str(options.output))} .')


def _parser():
    parser = CommandParser(prog='python -m resnet_rs.publish', description=__doc__)
    add_arguments(parser)
    parser.add_argument(
        '--license', default='apache-2.0', help='of the weights (default: %(default)s)'
    )
    return parser


if __name__ == '__main__':
    log_for_people()
    main()
