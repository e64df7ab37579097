"""Tables, plots and report.html of a sweep, written into a directory.

    python -m resnet_rs.sweep.report --source=SOURCE --output=DIR

SOURCE is the directory of a sweep or a table of results (resnet_rs/results.py).
"""

import os
import pathlib
import sys

from resnet_rs.sweep import results
from resnet_rs.utils.errors import CommandParser, UserError, one_line_errors
from resnet_rs.utils.platforms import use_cpu


def write(source: str | os.PathLike, output: str | os.PathLike) -> list[pathlib.Path]:
    """Writes the tables, plots and page of `source`; returns the paths.

    Runs without a result are named on stderr; without any result the function writes nothing. A
    table gives the same files on every machine; with a directory the page also has links to runs.
    """
    from resnet_rs.sweep import figures  # matplotlib takes a second
    from resnet_rs.sweep.page import write_page

    with_runs = os.path.isdir(source)
    if with_runs:
        rows, problems = results.collect(source)
        for problem in problems:
            print(f'left out: {problem}', file=sys.stderr)
    else:
        rows = results.read_table(source)
    if not rows:
        return []
    drawn = figures.draw_all(rows)
    return [
        *results.write_tables(rows, output),
        *figures.save(drawn, output),
        write_page(rows, drawn, output, with_runs=with_runs),
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser(prog='python -m resnet_rs.sweep.report', description=__doc__)
    parser.add_argument('--source', required=True, help='directory of a sweep, or a table')
    parser.add_argument('--output', required=True, metavar='DIR', help='where the files go')
    options = parser.parse_args(arguments)
    use_cpu()  # counting parameters needs no accelerator
    with one_line_errors(UserError):
        written = write(options.source, options.output)
        if not written:
            raise UserError(f'{options.source} holds no evaluated run')
        for path in written:
            print(path)


if __name__ == '__main__':
    main()
