"""README.md of a published network: data, recipe, and results of the run as measured."""

import pathlib
import re
import shlex

from resnet_rs.config import SETTINGS, flatten
from resnet_rs.datasets.locate import find_dataset
from resnet_rs.export.network import Network
from resnet_rs.models import count_parameters
from resnet_rs.run.run_log import read_metrics
from resnet_rs.training.evaluation import RESULTS_DIRECTORY
from resnet_rs.utils.errors import UserError, count_of
from resnet_rs.utils.files import read_json
from resnet_rs.utils.statistics import wilson_interval

PRIVATE = ('init_from', 'hosts.')  # places of one machine, as are all names in _dir


def write(
    network: Network, workdir: pathlib.Path, timm_config: dict, license: str, has_curves: bool
) -> str:
    """Returns the text of README.md.

    Args:
      network: that is published.
      workdir: its work directory.
      timm_config: the contents of config.json.
      license: an identifier of the Hub, such as 'apache-2.0'.
      has_curves: whether curves.png, the training curve, lies beside it.
    """
    config = network.config
    environment = _environment(workdir)
    parameters = count_parameters(network.variables['params'])
    pretrained = timm_config['pretrained_cfg']
    data = 'a folder of images' if config.data.source == 'image_folder' else config.data.name
    origin = f'trained on {data}' if environment else 'converted from another implementation'
    parts = [
        '---',
        f'license: {license}',
        'library_name: timm',
        'pipeline_tag: image-classification',
        'tags: [image-classification, timm, jax, flax, stablehlo]',
        '---',
        f'# {config.model.name}, {count_of(len(network.class_names), "class")}',
        '',
        f'{parameters:,} parameters; images of {network.image_size} pixels; {origin}; the '
        f'{network.weights} weights of step {network.step:,}.',
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
        f'{network.image_size} pixels with the kernel {config.data.resize!r} of '
        f"resnet_rs; timm's {pretrained['interpolation']} differs slightly. "
        '`stablehlo/model.stablehlo` is the same network for `jax.export`, with the normalisation '
        'inside; `stablehlo/export.json` describes it. `class_names.txt` names the classes.',
        '',
        '## Training',
        '',
        *_training(config, network.step, environment),
    ]
    if has_curves:
        parts += ['', '![Loss and top-1 over the steps](curves.png)']
    return '\n'.join(parts) + '\n'


def results(network: Network, workdir: pathlib.Path) -> list[dict]:
    """Returns the measured accuracies of the checkpoint, of the weights that are published.

    Each has 'evaluation', 'size', 'metric', 'value', and 'right' and 'examples' where they are
    known. They come from metrics.jsonl and from evaluations/ of the work directory.
    """
    found = []
    for path in sorted((workdir / RESULTS_DIRECTORY).glob('*.json')):
        result = read_json(path, 'remove it')
        if result.get('step') != network.step:
            continue
        scores = result['weights'][network.weights]
        name = f'{result["data"]} {result["split"]}, {result["crop"]}'
        for metric in ('top1', 'top5'):
            if metric in scores:
                found.append(
                    {
                        'evaluation': name,
                        'size': result['image_size'],
                        'metric': metric,
                        'value': scores[metric],
                        'right': scores[f'{metric}_count'],
                        'examples': result['examples'],
                    }
                )
    lines = [line for line in read_metrics(workdir, 'eval') if line['step'] == network.step]
    for line in lines[-1:] if not found else []:
        data = network.config.data
        for metric in ('top1', 'top5'):
            if (value := line.get(f'{network.weights}_{metric}')) is not None:
                found.append(
                    {
                        'evaluation': f'{data.name} {data.eval_split}, {data.eval_crop}',
                        'size': network.image_size,
                        'metric': metric,
                        'value': value,
                        **_counts(value, data),
                    }
                )
    return found


def _counts(value: float, data) -> dict:
    """Returns 'right' and 'examples' if the data are there and agree with the accuracy."""
    try:
        examples = find_dataset(data).split(data.eval_split).num_examples
    except UserError:  # the run's data are on another machine: the accuracy stays without a count
        return {}
    right = round(value * examples)
    # Skipped images would make another denominator.
    return {'right': right, 'examples': examples} if abs(right / examples - value) < 1e-9 else {}


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
        metric = {'top1': 'top-1', 'top5': 'top-5'}[result['metric']]
        value = f'{100 * result["value"]:.2f} %'
        rows.append(
            f'| {result["evaluation"]} | {result["size"]} | {metric} | {value} | {count} | '
            f'{interval} |'
        )
    return rows


def _training(config, step: int, environment: dict | None) -> list[str]:
    if environment is None:
        return ['The weights were converted from another implementation, not trained here.']
    settings = {
        name: value
        for name, value in flatten(config.to_dict()).items()
        if not name.startswith(PRIVATE)
        and not name.endswith('_dir')
        and (name not in SETTINGS or value != SETTINGS[name].default)
    }
    command = [
        re.sub(r'^(--(?:workdir|config\.[\w.]*_dir|config\.init_from))=.*', r'\1=DIR', x)
        for x in environment['command'][1:]
    ]
    return [
        f'{step:,} steps on {environment["devices"]}. Code: ResNet-RS in JAX, commit '
        f'{environment["commit"] or "not known"}; JAX {environment["packages"]["jax"]}.',
        '',
        f'    python main.py {shlex.join(command)}',
        '',
        'The settings that differ from the defaults:',
        '',
        '| setting | value |',
        '|---|---|',
        *(f'| `{name}` | `{value!r}` |' for name, value in sorted(settings.items())),
    ]


def _environment(workdir: pathlib.Path) -> dict | None:
    path = workdir / 'environment.json'
    return read_json(path, 'remove it') if path.exists() else None
