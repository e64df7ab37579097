"""The rows of several sources, and the tables, plots and page of these rows."""

import os
import pathlib
import sys
from collections.abc import Sequence

from resnet_rs.sweep import results


def read(sources: Sequence[str | os.PathLike]) -> list[dict]:
    """Returns the rows of all sources once; names runs without a result on stderr.

    A source is the directory of a sweep, a work directory or a table. Raises UserError if two
    sources disagree on a run.
    """
    tables = []
    for source in sources:
        if os.path.isdir(source):
            rows, problems = results.collect(source)
            for problem in problems:
                print(f'left out: {problem}', file=sys.stderr)
        else:
            rows = results.read_table(source)
        tables.append(rows)
    return results.merge(tables)


def write(rows: list[dict], directory: str | os.PathLike, *, with_runs: bool) -> list[pathlib.Path]:
    """Writes tables, plots and report.html into `directory`; returns their paths.

    `with_runs` adds links to the runs and curves of their training loss. Without it the files
    depend on the rows alone.
    """
    from resnet_rs.sweep import figures  # matplotlib takes a second
    from resnet_rs.sweep.page import write_page

    drawn = figures.draw_all(rows)
    return [
        *results.write_tables(rows, directory),
        *figures.save(drawn, directory),
        write_page(rows, drawn, directory, with_runs=with_runs),
    ]
