"""Writes the tables, plots and report.html of evaluated runs (docs/sweeps.md).

    python -m resnet_rs.results SOURCE... --output=DIR

SOURCE is the directory of a sweep, the work directory of a run, or a table written on another
machine (.csv or .parquet). A row of results.csv and results.parquet is a run; results.md has a row
for each configuration and the step of its last evaluation, with mean and standard deviation over
the seeds.
"""

import os

from resnet_rs.sweep import report
from resnet_rs.utils.errors import CommandParser, UserError, one_line_errors
from resnet_rs.utils.platforms import use_cpu


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    parser = CommandParser(prog='python -m resnet_rs.results', description=__doc__)
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='a directory or a table')
    parser.add_argument('--output', required=True, metavar='DIR', help='where the files go')
    options = parser.parse_args(arguments)
    use_cpu()  # counting parameters needs no accelerator
    with one_line_errors(UserError, OSError):
        rows = report.read(options.sources)
        if not rows:
            raise UserError(f'no evaluated run in {", ".join(options.sources)}')
        with_runs = all(map(os.path.isdir, options.sources))
        for path in report.write(rows, options.output, with_runs=with_runs):
            print(path)


if __name__ == '__main__':
    main()
