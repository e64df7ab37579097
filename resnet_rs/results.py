"""Writes one table of finished runs: results.csv, results.parquet and results.md.

    python -m resnet_rs.results SOURCE... --output=DIR

SOURCE is the directory of a sweep, the work directory of a run, or a table written on another
machine (.csv or .parquet). A row is a run; results.md has a row per configuration, with mean and
standard deviation over its seeds.
"""

import os
import sys

from resnet_rs.sweep import results
from resnet_rs.utils.errors import CommandParser, UserError, one_line_errors
from resnet_rs.utils.platforms import use_cpu


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser(prog='python -m resnet_rs.results', description=__doc__)
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='a directory or a table')
    parser.add_argument('--output', required=True, metavar='DIR', help='where the tables go')
    options = parser.parse_args(arguments)
    use_cpu()  # counting parameters needs no accelerator
    with one_line_errors(UserError):
        tables = []
        for source in options.sources:
            if os.path.isdir(source):
                rows, problems = results.collect(source)
                for problem in problems:
                    print(f'left out: {problem}', file=sys.stderr)
            else:
                rows = results.read_table(source)
            tables.append(rows)
        rows = results.merge(tables)
        if not rows:
            raise UserError(f'no evaluated run in {", ".join(options.sources)}')
        for path in results.write_tables(rows, options.output):
            print(path)


if __name__ == '__main__':
    main()
