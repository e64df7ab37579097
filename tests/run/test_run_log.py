"""TensorBoard's own HParams plugin finds the runs of a sweep, their settings and their scores."""

import numpy as np
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups, metadata

from configs import digits
from resnet_rs.run.run_log import RunLog, parameter_table


def test_hparams_of_a_sweeps_directory(tmp_path):
    for seed, top1 in enumerate((0.25, 0.5)):
        config = digits.get_config('debug').unlock()
        config.seed = seed
        workdir = tmp_path / f'seed{seed}'
        workdir.mkdir()
        with RunLog(workdir, config, resumed_step=0) as log:
            log.write(4, 'eval', {'ema_top1': top1}, {})

    events = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    events.Reload()
    provider = data_provider.MultiplexerDataProvider(events, str(tmp_path))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        col_params=[api_pb2.ColParams(metric=api_pb2.MetricName(group='', tag='eval/ema_top1'))],
    )
    request.allowed_statuses.extend(
        [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_RUNNING]
    )
    groups = (
        list_session_groups.Handler(RequestContext(), context, experiment_id='', request=request)
        .run()
        .session_groups
    )
    assert metadata.PLUGIN_NAME == 'hparams'
    found = {}
    for group in groups:
        [session] = group.sessions
        settings = {name: value.ListFields()[0][1] for name, value in group.hparams.items()}
        scores = {m.name.tag: (m.training_step, m.value) for m in session.metric_values}
        found[settings['seed']] = settings['model.name'], scores['eval/ema_top1']
    assert found == {0.0: ('resnet_rs_14', (4, 0.25)), 1.0: ('resnet_rs_14', (4, 0.5))}


def test_the_table_of_parameters_has_a_row_for_each_stage_and_the_sum():
    params = {
        'stem': {'kernel': np.zeros((3, 3, 3, 32), np.float32)},
        'stage1': {
            f'block{number}': {'kernel': np.zeros((1, 32), np.float32), 'bias': np.zeros(32)}
            for number in (1, 2)
        },
    }
    rows = [
        tuple(cell.strip() for cell in line.strip('|').split('|'))
        for line in parameter_table(params).splitlines()
        if line.startswith('|')
    ]
    assert rows == [
        ('Name', 'Arrays', 'Parameters', 'Bytes'),
        ('stage1', '4', '128', '768'),
        ('stem', '1', '864', '3,456'),
        ('total', '5', '992', '4,224'),
    ]


def test_a_finished_run_keeps_its_environment(tmp_path):
    """Its figures are of the machine and the commit that trained it."""
    path = tmp_path / 'environment.json'
    for finished in (False, True):
        path.write_text('of the start before')
        if finished:
            (tmp_path / 'predictions.npz').touch()
        with RunLog(tmp_path, digits.get_config('debug'), resumed_step=0):
            pass
        assert (path.read_text() == 'of the start before') == finished
