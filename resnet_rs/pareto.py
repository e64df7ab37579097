"""Draws the Pareto fronts of the published networks: accuracy against latency and multiply-adds.

python -m resnet_rs.pareto --output=DIR
"""

import pathlib

from resnet_rs.utils.errors import CommandParser, one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    parser = CommandParser(prog='python -m resnet_rs.pareto', description=__doc__)
    parser.add_argument('--output', required=True, metavar='DIR', help='where the pictures go')
    output = pathlib.Path(parser.parse_args(arguments).output)
    from resnet_rs.sweep.figures import save
    from resnet_rs.sweep.pareto import draw_published

    with one_line_errors(OSError):
        for path in save(draw_published(), output):
            print(path)


if __name__ == '__main__':
    main()
