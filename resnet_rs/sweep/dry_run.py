"""What a sweep would cost, before anything is spent."""

import ml_collections

from resnet_rs import results


def dry_run(pairs: list[tuple[str, ml_collections.ConfigDict]]) -> str:
    """One line for each run: parameters and multiply-adds of one training image."""
    width = max(len(name) for name, _ in pairs)
    lines = [f'{"run":{width}}  {"parameters":>12}  {"multiply-adds":>15}']
    for name, config in pairs:
        parameters, multiply_adds = results.cost_of(config)
        lines.append(f'{name:{width}}  {parameters:12,}  {multiply_adds:15,}')
    return '\n'.join(lines)
