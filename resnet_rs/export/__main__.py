"""Exports a trained network to a format that other programs run (docs/export.md).

    python -m resnet_rs.export --workdir=DIR --format=stablehlo --output=FOLDER

FOLDER gets the exported files and export.json: preprocessing, names of the classes, versions and
digests. Before it appears, a fresh process without this project runs the exported files on images
of the evaluation split, and their logits are compared with those of the evaluation step.
"""

import argparse
import importlib
import importlib.util

from resnet_rs.export.arguments import add_arguments, parse
from resnet_rs.utils.errors import CommandParser, UserError, one_line_errors, positive_integer
from resnet_rs.utils.files import check_absent, created_whole, make_readable
from resnet_rs.utils.log_lines import log_for_people
from resnet_rs.utils.platforms import skip_absent_tpu

# The precisions of each format, the default first; the greatest difference of logits that each may
# have, as a part of the largest logit; and the libraries that a format needs.
FORMATS = {
    'stablehlo': ('float32', 'bfloat16'),
    'saved_model': ('float32', 'bfloat16'),
    'tflite': ('float32', 'float16', 'int8'),
    'onnx': ('float32',),
}
TOLERANCES = {'float32': 1e-4, 'bfloat16': 0.05, 'float16': 0.01, 'int8': 0.1}
LIBRARIES = {'onnx': ('onnx', 'onnxruntime')}
OF_CLIPS = ('stablehlo',)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    parser = _parser()
    options = parse(parser, arguments)
    if problem := _contradiction(options):
        parser.error(problem)
    skip_absent_tpu()
    with one_line_errors(UserError, OSError):
        export(options)


def export(options: argparse.Namespace) -> None:
    """Exports the network of `options.workdir` to `options.output`; raises UserError."""
    from resnet_rs.export import check  # JAX takes seconds
    from resnet_rs.export.network import check_takes_images, load_network

    check_absent(options.output)
    _check_libraries(options.format)
    if options.format not in OF_CLIPS:
        check_takes_images(options.workdir, f'--format={options.format}')
    any_size = options.image_size == 'any'
    network = load_network(
        options.workdir,
        options.weights,
        options.checkpoint,
        image_size=None if any_size else options.image_size,
        dtype='bfloat16' if options.precision == 'bfloat16' else 'float32',
    )
    images = check.images_for(network, options.images, options.check_images)
    settings = {'precision': options.precision}
    if options.format == 'stablehlo':
        settings = {'any_size': any_size, 'separate_weights': options.separate_weights}
    tolerance = options.tolerance or TOLERANCES[options.precision]
    with created_whole(options.output) as folder:
        folder.mkdir()
        agreement = export_network(network, options.format, folder, images, tolerance, **settings)
        make_readable(folder)
    print(f'{network.config.model.name} at step {network.step} ({network.weights}) exported')
    print(f'  {agreement}')
    for path in sorted(path for path in options.output.rglob('*') if path.is_file()):
        print(f'  {path.stat().st_size:,} bytes  {path.relative_to(options.output)}')
    print(f'written to {options.output}')


def export_network(network, format, folder, images, tolerance=TOLERANCES['float32'], **settings):
    """Writes the files of `format` and export.json into `folder`; returns their Agreement.

    `settings` are those of the format's `write`. The other arguments, errors and the check are
    those of `check.check`.
    """
    from resnet_rs.export import check, description
    from resnet_rs.export.network import without_source_paths

    module = importlib.import_module(f'resnet_rs.export.{format}')
    with without_source_paths():
        module.write(network, folder, **settings)
    agreement = check.check(network, format, folder, images, tolerance)
    facts = module.facts(network, **settings)
    description.write(folder, description.describe(network, format, folder, agreement, facts))
    return agreement


def _contradiction(options) -> str | None:
    """Returns what is wrong with the combination of options; sets the default precision."""
    options.precision = options.precision or FORMATS[options.format][0]
    if options.precision not in FORMATS[options.format]:
        return (
            f'--precision is {options.precision}; {options.format} takes '
            f'{", ".join(FORMATS[options.format])}'
        )
    if options.format != 'stablehlo' and options.image_size == 'any':
        return f'--image_size=any is for --format=stablehlo; {options.format} has one size'
    if options.format != 'stablehlo' and options.separate_weights:
        return f'--separate_weights is for --format=stablehlo, not for {options.format}'
    return None


def _check_libraries(format: str) -> None:
    absent = [name for name in LIBRARIES.get(format, ()) if not importlib.util.find_spec(name)]
    if absent:
        raise UserError(f"--format={format} needs {' and '.join(absent)}; pip install '.[export]'")


def _size(text: str) -> int | str:
    if text == 'any':
        return text
    return positive_integer(text)


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number between 0 and 1')
    return value


def _parser():
    parser = CommandParser(prog='python -m resnet_rs.export', description=__doc__)
    add_arguments(parser)
    parser.add_argument('--format', choices=list(FORMATS), required=True)
    parser.add_argument(
        '--precision',
        choices=list(TOLERANCES),
        help='stablehlo, saved_model: of the activations and of the kernels of convolutions; '
        'tflite: of the weights (default: float32)',
    )
    parser.add_argument(
        '--image_size',
        type=_size,
        help="pixels (default: those of the run's evaluation); stablehlo: or 'any'",
    )
    parser.add_argument(
        '--separate_weights',
        action='store_true',
        help='stablehlo: the weights in a file of their own, weights.safetensors',
    )
    parser.add_argument(
        '--tolerance',
        type=_tolerance,
        metavar='PART',
        help='greatest difference of logits, as a part of the largest (default: '
        + ', '.join(f'{value:g} for {name}' for name, value in TOLERANCES.items())
        + ')',
    )
    return parser


if __name__ == '__main__':
    log_for_people()
    main()
