"""Draws the Pareto fronts of the published networks: accuracy against latency and multiply-adds.

python -m resnet_rs.pareto --output=DIR
"""

import pathlib

from resnet_rs.utils.errors import CommandParser


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = CommandParser(prog='python -m resnet_rs.pareto', description=__doc__)
    parser.add_argument('--output', required=True, metavar='DIR', help='where the pictures go')
    output = pathlib.Path(parser.parse_args(arguments).output)
    from resnet_rs.sweep.figures import save
    from resnet_rs.sweep.pareto import draw_published

    for path in save(draw_published(), output):
        print(path)


if __name__ == '__main__':
    main()
