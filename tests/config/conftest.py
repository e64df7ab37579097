"""The command line of main.py, up to where it would train."""

import sys
import types

import pytest
from absl import flags, logging

import main


@pytest.fixture
def run_main(tmp_path, monkeypatch, capsys):
    """Runs main.py in this process; fails where it goes on to train."""

    def accepted(*arguments):
        raise AssertionError('accepted')

    monkeypatch.setitem(
        sys.modules, 'train_lib', types.SimpleNamespace(train_and_evaluate=accepted)
    )
    monkeypatch.setattr(logging.get_absl_handler(), 'addFilter', lambda filter: None)
    monkeypatch.chdir(tmp_path)
    file = f'{main.__file__.removesuffix("main.py")}configs/digits.py'

    def run(*arguments):
        command = ['main.py', f'--config={file}', f'--workdir={tmp_path}/run', *arguments]
        with pytest.raises(SystemExit) as exit:
            main.run(main.parse_flags(command))
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        assert exit.value.code == 2 and len(lines) == 1 and not printed.out, printed
        assert not list(tmp_path.iterdir())
        return lines[0]

    yield run
    flags.FLAGS.unparse_flags()
