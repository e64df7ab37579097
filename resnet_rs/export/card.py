"""README.md of a published network: data, recipe, and results of the run as measured."""

import pathlib
import re
import shlex

import numpy as np

from resnet_rs.config import SETTINGS, experiment_settings
from resnet_rs.config.dataset import dataset_name
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.export.check import Agreement
from resnet_rs.export.network import Network
from resnet_rs.models import count_parameters
from resnet_rs.run.report import draw_curves
from resnet_rs.run.run_log import ENVIRONMENT_FILE, PREDICTIONS_FILE, read_metrics
from resnet_rs.training.evaluation import RESULTS_DIRECTORY
from resnet_rs.utils.errors import UserError, count_of
from resnet_rs.utils.figures import encode_figure
from resnet_rs.utils.files import read_json
from resnet_rs.utils.statistics import wilson_interval

# The settings that the recipe has in any case; of the others it has those that are not the default.
RECIPE = (
    'batch_size',
    'duration',
    'data.image_size',
    'data.augment',
    'data.mixup_alpha',
    'data.cutmix_alpha',
    'model.dropout_rate',
    'model.stochastic_depth_rate',
    'optimizer.name',
    'optimizer.learning_rate',
    'optimizer.schedule',
    'optimizer.warmup',
    'optimizer.momentum',
    'optimizer.weight_decay',
    'optimizer.label_smoothing',
    'ema.decay',
)
CURVES = 'curves.png'
METRICS = {'top1': 'top-1', 'top5': 'top-5'}


def text(
    network: Network,
    workdir: pathlib.Path,
    pretrained: dict,
    license: str,
    agreement: Agreement,
    curves: str | None,
) -> str:
    """Returns the text of README.md.

    Args:
      network: the published network.
      workdir: its work directory.
      pretrained: the pretrained_cfg of config.json.
      license: an identifier of the Hub, such as 'apache-2.0'.
      agreement: the agreement of the StableHLO file with the evaluation step.
      curves: the name of a picture of the training curve, or None.
    """
    config = network.config
    environment = _environment(workdir)
    parameters = count_parameters(network.variables['params'])
    data = dataset_name(config)
    origin = f'trained on {data}' if environment else 'converted from another implementation'
    return '\n'.join(
        [
            '---',
            f'license: {license}',
            'library_name: timm',
            'pipeline_tag: image-classification',
            'tags: [image-classification, timm, jax, flax, stablehlo]',
            '---',
            f'# {config.model.name}, {count_of(len(network.class_names), "class")}',
            '',
            f'{parameters:,} parameters; images of {network.image_size} pixels; {origin}; the '
            f'{network.weights} weights of step {network.step:,}. Licence of the weights: '
            f'{license}.',
            '',
            '## Results',
            '',
            *_results_table(results(network, workdir)),
            '',
            '## Use',
            '',
            '```python',
            'import timm',
            '',
            "network = timm.create_model('hf-hub:NAME/REPOSITORY', pretrained=True)",
            '```',
            '',
            f'Evaluation takes the centre {pretrained["crop_pct"]:.3f} of an image, resized to '
            f'{network.image_size} pixels with the kernel `{config.data.resize}` of TensorFlow; '
            f"timm's {pretrained['interpolation']} gives slightly different pixels. "
            '`class_names.txt` has the classes in the order of the logits.',
            '',
            '`stablehlo/model.stablehlo` is the same network for `jax.export`, with the '
            'normalisation inside; `stablehlo/export.json` describes it. Read without the code '
            f'that wrote it, it was compared with the evaluation step: {agreement}.',
            '',
            '## Training',
            '',
            *_training(network, data, environment),
            *(['', f'![Loss and top-1 over the steps]({curves})'] if curves else []),
            '',
        ]
    )


def write_curves(workdir: pathlib.Path, folder: pathlib.Path) -> str | None:
    """Draws the training curve of a run into `folder`; returns the file's name, or None."""
    lines = read_metrics(workdir)
    if not lines:
        return None
    (folder / CURVES).write_bytes(encode_figure(draw_curves(lines), 'png'))
    return CURVES


def results(network: Network, workdir: pathlib.Path) -> list[dict]:
    """Returns the measured accuracies of the checkpoint, of the weights that are published.

    Each has 'evaluation', 'size', 'metric', 'value', and 'right' and 'examples' where they are
    known. They are those of evaluations/ in the work directory and, if it has none of this
    checkpoint, those that training logged.
    """
    found = []
    for path in sorted((workdir / RESULTS_DIRECTORY).glob('*.json')):
        result = read_json(path, 'remove it')
        try:
            found += _stored_results(result) if result['step'] == network.step else []
        except (KeyError, TypeError) as error:
            raise UserError(f'{path} is damaged ({error!r}); remove it') from error
    return [result for result in found if result['weights'] == network.weights] or [
        *_logged_results(network, workdir)
    ]


def _stored_results(result: dict):
    name = ' '.join(result[key] for key in ('evaluation', 'data', 'split') if key in result)
    for weights, scores in result['weights'].items():
        for metric in METRICS:
            if metric in scores:
                yield {
                    'weights': weights,
                    'evaluation': f'{name}, {result["crop"]}',
                    'size': result['image_size'],
                    'metric': metric,
                    'value': scores[metric],
                    'right': scores[f'{metric}_count'],
                    'examples': result['examples'],
                }


def _logged_results(network: Network, workdir: pathlib.Path):
    data = network.config.data
    lines = [line for line in read_metrics(workdir, 'eval') if line['step'] == network.step]
    for metric in METRICS if lines else ():
        if (value := lines[-1].get(f'{network.weights}_{metric}')) is not None:
            column = f'{network.weights}_{metric}'
            yield {
                'evaluation': f'{dataset_name(network.config)} {data.eval_split}, {data.eval_crop}',
                'size': network.image_size,
                'metric': metric,
                'value': value,
                **(_stored_counts(workdir, column, value) or _counts_of_split(data, value)),
            }


def _stored_counts(workdir: pathlib.Path, column: str, value: float) -> dict:
    """Returns 'right' and 'examples' of predictions.npz if it is of the evaluation, else {}."""
    path = workdir / PREDICTIONS_FILE
    if not path.exists():
        return {}
    try:
        with np.load(path) as table:
            right = table[column]
    except Exception as error:  # of zipfile, zlib or NumPy
        raise UserError(f'{path} is damaged ({error}); remove it') from error
    return _counts(int(right.sum()), len(right), value)


def _counts_of_split(data, value: float) -> dict:
    """Returns 'right' and 'examples' if the data are there and agree with the accuracy, else {}."""
    try:
        examples = find_dataset(data).split(data.eval_split).num_examples
    except UserError:  # the run's data are on another machine: the accuracy stays without a count
        return {}
    return _counts(round(value * examples), examples, value)


def _counts(right: int, examples: int, value: float) -> dict:
    # Skipped images would make another denominator.
    is_same = examples and abs(right / examples - value) < 1e-9
    return {'right': right, 'examples': examples} if is_same else {}


def _results_table(found: list[dict]) -> list[str]:
    if not found:
        return ['This checkpoint was not evaluated.']
    rows = [
        '| evaluation | pixels | metric | result | right | 95 % interval (Wilson) |',
        '|---|---|---|---|---|---|',
    ]
    for result in found:
        count = interval = 'not known'
        if 'right' in result:
            count = f'{result["right"]:,} of {result["examples"]:,}'
            low, high = wilson_interval(result['right'], result['examples'])
            interval = f'{100 * low:.2f} to {100 * high:.2f} %'
        rows.append(
            f'| {result["evaluation"]} | {result["size"]} | {METRICS[result["metric"]]} | '
            f'{100 * result["value"]:.2f} % | {count} | {interval} |'
        )
    return rows


def _training(network: Network, data: str, environment: dict | None) -> list[str]:
    if environment is None:
        return ['The weights were converted from another implementation, not trained here.']
    settings = {'seed': network.config.seed} | {
        name: _public(value) if isinstance(value, str) else value
        for name, value in experiment_settings(network.config).items()
        if name in RECIPE or value != SETTINGS[name].default
    }
    config = network.config.data
    return [
        f'{network.step:,} steps on {environment["devices"]}. Data: {data}, split '
        f'`{config.train_split}`{_number_of_examples(config)}. Code: ResNet-RS in JAX, commit '
        f'{environment["commit"] or "not known"}; JAX {environment["packages"]["jax"]}. The '
        'command:',
        '',
        f'    python main.py {shlex.join(map(_public, environment["command"][1:]))}',
        '',
        'The recipe; all other settings have their defaults:',
        '',
        '| setting | value |',
        '|---|---|',
        *(f'| `{name}` | `{value!r}` |' for name, value in sorted(settings.items())),
    ]


def _number_of_examples(data) -> str:
    try:
        examples = find_dataset(data).split(data.train_split).num_examples
    except UserError:  # the run's data are on another machine
        return ''
    return f' of {count_of(examples, "image")}'


def _public(text: str) -> str:
    """Returns an argument or a setting with DIR for the directories of absolute paths."""
    return re.sub(r'(^|[=:])[/~][^:=]*?(/[^/:=]+\.py(?=:|$)|(?=[:=]|$))', r'\1DIR\2', text)


def _environment(workdir: pathlib.Path) -> dict | None:
    """Returns environment.json of a run, None for converted weights."""
    path = workdir / ENVIRONMENT_FILE
    if not path.exists():
        return None
    found = read_json(path, 'remove it')
    names = ('command', 'commit', 'devices', 'packages')
    if not isinstance(found, dict) or not all(name in found for name in names):
        raise UserError(f'{path} is damaged; remove it')
    return found
