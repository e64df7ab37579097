"""Writes the page of a study: its question, table, statistics and plot (docs/sweeps.md).

    python -m resnet_rs.study --sweep=configs/sweeps/NAME.py --workdir=DIR --output=FOLDER

The sweep file describes the study in STUDY; DIR is the directory of its runs. The page names the
runs that have not finished.
"""

import os

from resnet_rs.utils.errors import CommandParser, UserError, one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a user error prints one line and exits with status 2."""
    parser = CommandParser(prog='python -m resnet_rs.study', description=__doc__)
    parser.add_argument('--sweep', required=True, metavar='FILE', help='has STUDY')
    parser.add_argument('--workdir', required=True, metavar='DIR', help='of the sweep')
    parser.add_argument('--output', required=True, metavar='FOLDER', help='where the page goes')
    options = parser.parse_args(arguments)
    with one_line_errors(UserError, OSError):
        from resnet_rs.run.run_log import is_reported
        from resnet_rs.sweep.definition import Command, load_attribute, load_sweep
        from resnet_rs.sweep.study_page import write_study

        study = load_attribute(options.sweep, 'STUDY')
        if study is None:
            raise UserError(f'{options.sweep} has no STUDY; name the sweep file of a study')
        workdir = os.path.abspath(options.workdir)

        def is_finished(name, step):
            directory = os.path.join(workdir, name)
            if isinstance(step, Command):
                return os.path.exists(os.path.join(directory, step.output))
            return is_reported(directory)

        pairs = load_sweep(options.sweep, workdir)
        datasets = {step.data.name: None for _, step in pairs if not isinstance(step, Command)}
        arguments = f'--sweep={options.sweep} --workdir=DIR'
        paths = write_study(
            study,
            workdir,
            options.output,
            commands=[
                *(f'python -m resnet_rs.datasets.prepare {name}' for name in datasets),
                f'python -m resnet_rs.sweep {arguments}',
                *study.commands,
                f'python -m resnet_rs.study {arguments} --output=FOLDER',
            ],
            unfinished=[name for name, step in pairs if not is_finished(name, step)],
        )
        for path in paths:
            print(path)


if __name__ == '__main__':
    main()
