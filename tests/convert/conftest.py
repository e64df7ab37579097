"""The command that converts, where it has to fail."""

import pytest

from resnet_rs.convert.__main__ import main


@pytest.fixture
def refuse(tmp_path, capsys):
    """Runs the command, which has to fail, and returns its error line."""

    def run(source, path, *options):
        output = tmp_path / 'new' / 'out'
        before = sorted(tmp_path.rglob('*'))
        with pytest.raises(SystemExit, match='2'):
            main([f'--source={source}', str(path), f'--output={output}', *options])
        captured = capsys.readouterr()
        assert captured.out == ''
        assert sorted(tmp_path.rglob('*')) == before
        assert captured.err.startswith('error: ') and captured.err.count('\n') == 1
        return captured.err

    return run
