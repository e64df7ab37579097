"""config.evals: which evaluations a run has, and which settings each of them takes."""

import pytest
from absl import flags
from ml_collections import config_flags

from resnet_rs.config import (
    EVALUATION_SETTINGS,
    SETTINGS,
    default_config,
    experiment_settings,
    may_change_on_resume,
    may_differ_between_hosts,
)
from resnet_rs.config.command_line import parse_flags
from resnet_rs.config.evaluations import (
    evaluation_config,
    evaluation_names,
    with_image_size,
)
from resnet_rs.config.stored import read_config, write_config
from resnet_rs.config.validation import check_settings
from resnet_rs.settings import select
from resnet_rs.utils.errors import UserError


def with_evals(**evals):
    config = default_config()
    with config.ignore_type():
        config.evals.update(evals)
    return config


def test_an_evaluation_replaces_what_it_sets_and_no_more():
    config = with_evals(
        v2=dict(name='imagenet_v2/matched-frequency', split='test'),
        large=dict(image_size=224, crop='fraction 1', batch_size=64, every='2 epochs'),
        folder=dict(source='image_folder', data_dir='/photographs'),
    )
    config.data.cache = 'memory'
    check_settings(config)
    assert evaluation_names(config) == ('eval', 'folder', 'large', 'v2')
    assert evaluation_names(config, 'v2') == ('v2',)
    assert evaluation_config(config, 'eval') is config

    def changed(name):
        found, of_run = evaluation_config(config, name), default_config()
        return {
            setting: value
            for setting, value in experiment_settings(found).items()
            if value != experiment_settings(of_run)[setting] and setting != 'data.train_split'
        }

    assert changed('v2') == {
        'data.name': 'imagenet_v2/matched-frequency',
        'data.eval_split': 'test',
    }
    assert changed('large') == {'eval.image_size': 224, 'data.eval_crop': 'fraction 1'}
    large = evaluation_config(config, 'large').eval
    assert (large.batch_size, large.every) == (64, '2 epochs')
    folder = evaluation_config(config, 'folder').data
    assert (folder.source, folder.data_dir) == ('image_folder', '/photographs')
    assert folder.cache == '' and folder.train_split == 'validation'  # no training data is needed
    assert (config.data.name, config.eval.image_size) == ('imagenet2012', 0)


@pytest.mark.parametrize(
    'evals, message',
    [
        ({'real': {'splt': 'x'}}, "no setting 'evals.real.splt'; did you mean 'evals.real.split'"),
        ({'real': {'data': {'name': 'x'}}}, "no setting 'evals.real.data.name'; did you mean"),
        ({'real': 'imagenet2012_real'}, "no setting 'evals.real'; there are: evals.real.source"),
        ({'real': {}}, 'evals.real has no setting, so it would repeat the default evaluation'),
        ({'eval': {'split': 'x'}}, "evals.eval is not a name for an evaluation; .* not 'eval'"),
        ({'a/b': {'split': 'x'}}, 'evals.a/b is not a name for an evaluation; it takes up to 64'),
        (
            {'real': {'image_size': 8}},
            r'image_size is 8; it takes 0 \(eval.image_size\) or a whole',
        ),
        ({'real': {'image_size': '8'}}, "evals.real.image_size is '8'; it takes"),
        ({'real': {'batch_size': -1}}, 'evals.real.batch_size is -1; it takes 0'),
        ({'real': {'every': '0 steps'}}, "evals.real.every is '0 steps'; it takes ''"),
        ({'real': {'every': 5}}, 'evals.real.every is 5; it takes'),
        ({'real': {'crop': 'padding'}}, "evals.real.crop is 'padding'; it takes"),
        ({'real': {'source': 'web'}}, "evals.real.source is 'web'; it takes"),
        ({'real': {'name': 3}}, 'evals.real.name is 3; it takes'),
        ({'real': {'split': 'a\0b'}}, 'evals.real.split is .* it takes'),
        ({'real': {'data_dir': 'a' * 256}}, 'evals.real.data_dir is .* it takes'),
    ],
)
def test_wrong_evaluations_are_refused(evals, message):
    with pytest.raises(UserError, match=message) as error:
        check_settings(with_evals(**evals))
    assert '\n' not in str(error.value)


def test_the_best_checkpoint_goes_by_an_evaluation_of_the_run():
    config = with_evals(real=dict(split='test'))
    config.checkpoint.best_by = 'real'
    check_settings(config)
    config.checkpoint.best_by = 'v2'
    with pytest.raises(UserError, match="best_by is 'v2'; it takes .*: eval, real, or"):
        check_settings(config)
    with pytest.raises(UserError, match="'v2' is no evaluation of this run; there are eval, real"):
        evaluation_names(config, 'v2')


def test_evaluations_are_kept_with_the_run(tmp_path):
    config = with_evals(real=dict(name='imagenet2012_real', image_size=64))
    write_config(tmp_path, config)
    assert read_config(tmp_path).to_dict() == config.to_dict()
    for wrong in ('{"evals": 5}', '{"evals": {"real": 5}}', '{"evals": {"real": {"name": 5}}}'):
        (tmp_path / 'config.json').write_text(wrong)
        with pytest.raises(UserError, match='config.json is damaged: .*evals'):
            read_config(tmp_path)


def test_evaluations_may_be_added_to_a_run_and_make_no_other_experiment():
    for key, setting in EVALUATION_SETTINGS.items():
        assert may_change_on_resume(f'evals.real.{key}')
        assert may_differ_between_hosts(f'evals.real.{key}') == (key == 'data_dir')
        assert setting.replaces in SETTINGS
        setting.rule.check(key, setting.default)
    assert not may_change_on_resume('evals.real.gone')
    added = experiment_settings(with_evals(real=dict(split='test')))
    assert added == experiment_settings(default_config())


def test_a_flag_changes_what_the_config_file_sets(tmp_path):
    file = tmp_path / 'config.py'
    file.write_text(
        'from resnet_rs.config import default_config\n'
        'def get_config():\n'
        '    config = default_config()\n'
        "    config.evals.real = dict(name='imagenet2012_real')\n"
        '    return config.lock()\n'
    )

    def parsed(*arguments):
        arguments = ['main.py', f'--config={file}', *arguments]
        values = flags.FlagValues()
        config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=arguments)
        parse_flags(values, arguments)
        return values.config

    assert parsed('--config.evals.real.name=other').evals.real.name == 'other'
    for argument, message in (
        (
            '--config.evals.real.split=test',
            r'is not set in the config file; write config.evals.real.split = \.\.',
        ),
        (
            '--config.evals.v2.split=test',
            r'is not set in the config file; write config.evals.v2.split = \.\.\.',
        ),
        ('--config.evals.real.splt=test', "did you mean 'evals.real.split'"),
        ('--config.evals.real.image_size=5', 'evals.real.image_size is 5; it takes'),
    ):
        with pytest.raises(UserError, match=message):
            parsed(argument)


def test_the_list_of_settings_has_them():
    assert set(select(['evals.NAME'])) == {f'evals.NAME.{key}' for key in EVALUATION_SETTINGS}


def test_a_size_for_all_evaluations():
    config = with_evals(real=dict(image_size=320), v2=dict(name='imagenet_v2')).lock()
    changed = with_image_size(config, 256)
    for name in evaluation_names(changed):
        assert evaluation_config(changed, name).eval.image_size == 256
    assert config.evals.real.image_size == 320 and changed.data.image_size == 160
