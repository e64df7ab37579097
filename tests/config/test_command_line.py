"""Flags and files of settings: each mistake is one line, before anything is written."""

import pytest
from absl import flags

import main


@pytest.mark.parametrize(
    'arguments, message',
    [
        (
            ['--config.batch_size', 'many'],
            "batch_size is 'many'; it takes a whole number, 0 or more",
        ),
        (['--config.model.nmae=x'], "no setting 'model.nmae'; did you mean 'model.name'?"),
        (
            ['--config.optimizer.beta=0.9'],
            "no setting 'optimizer.beta'; there are: optimizer.name, optimizer.learn",
        ),
        (['--config.learning_rate=1'], "did you mean 'optimizer.learning_rate'?"),
        (['--config.train.momentum=1'], "did you mean 'optimizer.momentum'?"),
        (
            ['--config.model.freeze=1'],
            "no setting 'model.freeze'; there are: model.name, model.num_",
        ),
        (['--config.lr=1'], "no setting 'lr'; there are: seed, batch_size"),
    ],
)
def test_settings_that_do_not_exist(arguments, message, run_main):
    assert message in run_main(*arguments)


@pytest.mark.parametrize(
    'source, message',
    [
        ("config.batch_size = 'many'", 'line 4: TypeError'),
        ('config.lr = 1', 'line 4: AttributeError: '),
        ('confg.seed = 1', "line 4: NameError: name 'confg' is not defined"),
        ('config.seed = = 1', 'line 4: SyntaxError'),
    ],
)
def test_a_config_file_that_fails_is_named_with_its_line(source, message, tmp_path, capsys):
    file = tmp_path / 'mine.py'
    file.write_text(
        'from resnet_rs.config import default_config\n'
        f'def get_config():\n    config = default_config().lock()\n    {source}\n'
        '    return config\n'
    )
    with pytest.raises(SystemExit) as exit:
        main.parse_flags(['main.py', f'--config={file}'])
    lines = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2 and len(lines) == 1
    assert lines[0].startswith(f'error: {file}, {message}') and 'correct the file' in lines[0]
    flags.FLAGS.unparse_flags()


def test_a_module_that_a_config_file_imports_is_not_mistaken_for_it(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'broken_table.py').write_text('\n\n\n\nx = = 1\n')
    file = tmp_path / 'mine.py'
    file.write_text('import os\nimport broken_table\n')
    with pytest.raises(SystemExit):
        main.parse_flags(['main.py', f'--config={file}'])
    assert capsys.readouterr().err.startswith(f'error: {file}, line 2: SyntaxError: ')
    flags.FLAGS.unparse_flags()


def test_a_stored_configuration_is_no_config_file(run_main, tmp_path, capsys):
    with pytest.raises(SystemExit):
        (tmp_path / 'config.json').write_text('{"seed": true}')
        main.parse_flags(['main.py', f'--config={tmp_path}/config.json'])
    assert '--config=configs/stored.py:DIR' in capsys.readouterr().err
