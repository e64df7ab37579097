"""Converts weights between this project and other implementations (docs/convert.md).

    python -m resnet_rs.convert --source=timm resnetrs50_ema-6b53758b.pth --output=DIR
    python -m resnet_rs.convert --source=hf timm/resnetrs50.tf_in1k --output=DIR
    python -m resnet_rs.convert --to=timm --workdir=DIR --output=FILE.safetensors

The first two commands make a work directory for main.py --mode=eval, training and
resnet_rs.predict, from a file and from a repository of the Hugging Face Hub. The third writes the
state dict of a work directory's network for timm.
"""

import argparse
import importlib
import pathlib

from resnet_rs.config import SETTINGS
from resnet_rs.hub.download import PREFIX, download
from resnet_rs.utils.errors import (
    CommandParser,
    UserError,
    checkpoint_name,
    count_of,
    one_line_errors,
    positive_integer,
)
from resnet_rs.utils.files import check_absent, created_whole
from resnet_rs.utils.log_lines import log_for_people
from resnet_rs.utils.platforms import skip_absent_tpu

SOURCES = ('timm', 'keras', 'tf1', 'model_garden', 'hf')
HUB = 'hf'
# The options without an effect: a timm or Keras file holds one set of weights, and a repository of
# the Hub says what it holds.
UNUSED = {
    '--to=timm': ('num_classes', 'variant', 'image_size'),
    '--source=timm': ('checkpoint', 'weights'),
    '--source=keras': ('checkpoint', 'weights'),
    '--source=tf1': ('checkpoint',),
    '--source=model_garden': ('checkpoint',),
    '--source=hf': ('checkpoint', 'weights', 'num_classes', 'variant'),
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.to and (options.path or not options.workdir):
        parser.error('--to writes the weights of a run; which one is --workdir=DIR')
    if options.source and (options.workdir or not options.path):
        parser.error('--source reads a file; name it as PATH, and the new directory as --output')
    form = f'--to={options.to}' if options.to else f'--source={options.source}'
    for name in UNUSED[form]:
        if (value := getattr(options, name)) != parser.get_default(name):
            parser.error(f'--{name}={value} has no effect with {form}; leave it out')
    skip_absent_tpu()
    with one_line_errors(UserError, OSError):
        if options.image_size:
            SETTINGS['data.image_size'].rule.check('--image_size', options.image_size)
        if options.to:
            export_timm(options.workdir, options.output, options.weights, options.checkpoint)
        elif options.source == HUB:
            import_repository(str(options.path), options.output, options.image_size)
        else:
            import_weights(options)


def import_weights(options: argparse.Namespace) -> None:
    """Writes the work directory `options.output` from the file `options.path`."""
    from resnet_rs.convert.weights import assemble, recognise  # JAX and Flax take seconds
    from resnet_rs.convert.workdir import choose_image_size, network_config

    if (
        not options.path.exists()
        and not options.path.with_name(options.path.name + '.index').exists()
    ):
        raise UserError(f'{options.path} does not exist')
    check_absent(options.output)
    reader = importlib.import_module(f'resnet_rs.convert.{options.source}')
    source = reader.read(options.path, options.weights)
    try:
        network = recognise(source, options.variant, options.num_classes)
        weights, notes = assemble(source, network)
    except UserError as error:  # names tensors, but not the file
        raise UserError(f'{options.path}: {error}') from error
    image_size, why = choose_image_size(options.path, network, options.image_size)
    data, more = reader.preprocessing(network) if options.source == 'timm' else ({}, ())
    config = network_config(network, image_size, data | source.data)
    notes = (f'data.image_size is {image_size}: {why}', *more, *source.notes, *notes)
    _write(options.output, config, weights, network.settings, notes)


def import_repository(name: str, output: pathlib.Path, image_size: int | None) -> None:
    """Writes the work directory `output` from a repository of the Hub, 'OWNER/NAME[@REVISION]'."""
    check_absent(output)
    source = name if name.startswith(PREFIX) else PREFIX + name
    download(source)
    from resnet_rs.hub.timm_repository import describe  # JAX and Flax take seconds
    from resnet_rs.hub.timm_weights import read_weights

    description = describe(source)
    variables = read_weights(description)
    config = description.config.copy_and_resolve_references().unlock()
    if image_size:
        config.data.image_size, config.eval.image_size = image_size, 0
    notes = (f'of {description.repository}', *description.notes)
    weights = {'raw': variables, 'ema': variables}
    _write(output, config, weights, description.network.settings, notes, description.class_names)


def _write(output, config, weights, settings, notes, class_names=()):
    """Writes the work directory `output` and prints what it holds."""
    from resnet_rs.config.stored import CLASS_NAMES_FILE
    from resnet_rs.models import count_parameters
    from resnet_rs.run.workdir import write_workdir

    with created_whole(output) as partial:
        partial.mkdir()
        write_workdir(partial, config, weights)
        if class_names:
            (partial / CLASS_NAMES_FILE).write_text('\n'.join(class_names) + '\n')
    parameters = count_parameters(weights['ema']['params'])
    classes = count_of(config.model.num_classes, 'class')
    print(f'{config.model.name}: {parameters:,} parameters, {classes}')
    for name, value in settings.items():
        print(f'  model.{name} = {value!r}')
    for note in notes:
        print(f'  note: {note}')
    print(f'written to {output}')


def export_timm(workdir: pathlib.Path, output: pathlib.Path, weights: str, checkpoint: str) -> None:
    """Writes the 'ema' or 'raw' `weights` of a checkpoint of `workdir` as a timm state dict."""
    import safetensors.numpy

    from resnet_rs.convert import timm
    from resnet_rs.convert.weights import paths_of
    from resnet_rs.models import count_parameters
    from resnet_rs.run.workdir import load_workdir

    if output.suffix != '.safetensors':
        raise UserError(f'--output is {str(output)!r}; timm weights are written as .safetensors')
    check_absent(output)
    config, model, variables = load_workdir(workdir, weights, checkpoint)
    state = timm.to_state_dict(paths_of(variables), model.architecture)
    with created_whole(output) as partial:
        # safetensors itself creates files that other users cannot read.
        partial.write_bytes(safetensors.numpy.save(state, metadata={'format': 'pt'}))
    parameters = count_parameters(variables['params'])
    print(f'{config.model.name}: {parameters:,} parameters ({weights}) written to {output}')


def _parser():
    parser = CommandParser(prog='python -m resnet_rs.convert', description=__doc__)
    direction = parser.add_mutually_exclusive_group(required=True)
    direction.add_argument('--source', choices=SOURCES, help='what wrote PATH; hf: of the Hub')
    direction.add_argument('--to', choices=['timm'], help='the implementation to write for')
    parser.add_argument(
        'path',
        type=pathlib.Path,
        metavar='PATH',
        nargs='?',
        help='for --source: a file or a directory; for hf OWNER/NAME[@REVISION]',
    )
    parser.add_argument('--workdir', type=pathlib.Path, metavar='DIR', help='for --to: of a run')
    parser.add_argument(
        '--checkpoint',
        type=checkpoint_name,
        default='last',
        metavar='STEP',
        help="for --to: 'last', 'best' or a step (default: %(default)s)",
    )
    parser.add_argument('--output', type=pathlib.Path, required=True, help='must not exist')
    parser.add_argument(
        '--weights',
        choices=['ema', 'raw'],
        default='ema',
        help='of a tf1 or model_garden checkpoint, or of a work directory (default: %(default)s)',
    )
    parser.add_argument(
        '--num_classes',
        type=positive_integer,
        help="number of classes; if it differs from the file's, the classifier is new",
    )
    parser.add_argument(
        '--variant',
        choices=['v1', 'v1.5', 'fast', 'tf', 'timm'],
        default='v1.5',
        help='what tensors do not show. Of a bottleneck ResNet with a 7x7 stem: whether the stride '
        'is in the first 1x1 (v1) or in the 3x3 (v1.5, the default); of a ResNeSt: that it pools '
        "before its 3x3 convolutions (fast); of an EfficientNet whose file's name does not show "
        "it: timm's tf_efficientnet_* (tf) or efficientnet_* (timm)",
    )
    parser.add_argument('--image_size', type=positive_integer, help='pixels, written to the config')
    return parser


if __name__ == '__main__':
    log_for_people()
    main()
