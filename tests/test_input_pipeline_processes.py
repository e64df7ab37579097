"""The batches of two real, connected processes; run as a script, it is one of them.

test_input_pipeline_order.py has those of four, computed in one process.
"""

import json
import sys

import jax
import numpy as np
import pytest
from helpers import prepared, processes

import input_pipeline
from resnet_rs.multihost import connection
from resnet_rs.training.sharding import create_mesh, to_global

FORMATS = ('array_record', 'tfrecord')
BATCH = 8
EPOCH = 26  # batches: 208 examples
# name: (split, first step, batches); the first 20 examples lie in one of the 8 files.
TRAINING = {
    'epoch': ('train[:208]', 0, EPOCH),
    'resumed': ('train[:208]', EPOCH - 1, 4),
    'one_file': ('train[:20]', 0, 5),
}
# name: (split, examples); 29 leave a partial batch, 1 is fewer than the processes.
EVALUATION = {
    'whole': ('validation', 29),
    'one_file': ('train[:20]', 20),
    'few': ('validation[:1]', 1),
}


def read_all(data_dirs, index, count):
    """{name: [batches, B / P, ...]}: what process `index` of `count` reads of every case."""
    process = {'process_index': index, 'process_count': count}
    cases = {}
    for file_format, data_dir in data_dirs.items():
        config = prepared.small_config(batch_size=BATCH)
        config.data.data_dir = data_dir
        for name, (split, first_step, steps) in TRAINING.items():
            config.data.train_split = split
            batches = input_pipeline.train_batches(config, first_step=first_step, **process)
            cases[f'{file_format}/train/{name}'] = [next(batches) for _ in range(steps)]
        for name, (split, _) in EVALUATION.items():
            batches = input_pipeline.eval_batches(config, split=split, **process)
            cases[f'{file_format}/eval/{name}'] = list(batches)
    return cases


def stacked(cases):
    """The batches of every case as one array per key."""
    return {
        f'{case}/{key}': np.stack([batch[key] for batch in batches])
        for case, batches in cases.items()
        for key in batches[0]
    }


def placed(cases):
    """The same from global arrays: {name:first row: what a device of this process holds of them}"""
    mesh = create_mesh()
    rows = {}
    for case, batches in cases.items():
        for batch in batches:
            for key, array in to_global(batch, mesh).items():
                assert len(array) == BATCH
                for shard in array.addressable_shards:
                    first = shard.index[0].start or 0
                    rows.setdefault(f'{case}/{key}:{first}', []).append(np.asarray(shard.data))
    return {name: np.stack(parts) for name, parts in rows.items()}


@pytest.fixture(scope='module')
def streams(tmp_path_factory):
    """{processes: {'format/kind/case/key': [batches, B, ...]}}"""
    directory = tmp_path_factory.mktemp('processes')
    data_dirs = {name: prepared.data_dir('imagenet2012', name) for name in FORMATS}
    started = processes.start(2, __file__, json.dumps(data_dirs), directory, devices=2)
    results = {1: stacked(read_all(data_dirs, 0, 1))}
    for status, _, errors in processes.finish(started):
        assert status == 0, errors[-4000:]
    parts = {}
    for path in directory.glob('*.npz'):
        parts |= dict(np.load(path))
    assert len(parts) == 4 * len(results[1])
    results[2] = {
        name: np.concatenate([parts[f'{name}:{first}'] for first in range(0, BATCH, 2)], axis=1)
        for name in results[1]
    }
    return results


@pytest.mark.parametrize('file_format', FORMATS)
def test_training_batches_are_bitwise_those_of_one_process(streams, file_format):
    names = [name for name in streams[1] if name.startswith(f'{file_format}/train')]
    assert len(names) == 4 * len(TRAINING)
    for name in names:
        np.testing.assert_array_equal(streams[2][name], streams[1][name], err_msg=name)


@pytest.mark.parametrize('file_format', FORMATS)
@pytest.mark.parametrize('count', (1, 2))
def test_processes_together_see_each_example_once_an_epoch(streams, file_format, count):
    seen = streams[count][f'{file_format}/train/epoch/index'].ravel()
    assert sorted(seen) == list(range(EPOCH * BATCH))
    resumed = streams[count][f'{file_format}/train/resumed/index']
    np.testing.assert_array_equal(
        resumed[0], streams[count][f'{file_format}/train/epoch/index'][-1]
    )
    assert (resumed[1:4] != streams[count][f'{file_format}/train/epoch/index'][:3]).any()


@pytest.mark.parametrize('file_format', FORMATS)
@pytest.mark.parametrize('count', (1, 2))
def test_processes_together_evaluate_each_example_once(streams, file_format, count):
    for case, (_, examples) in EVALUATION.items():
        name = f'{file_format}/eval/{case}'
        kept = streams[count][f'{name}/mask'] > 0
        assert sorted(streams[count][f'{name}/index'][kept]) == list(range(examples))
        alone = streams[1][f'{name}/mask'] > 0
        for key in ('image', 'label'):
            order = np.argsort(streams[count][f'{name}/index'][kept])
            np.testing.assert_array_equal(
                streams[count][f'{name}/{key}'][kept][order], streams[1][f'{name}/{key}'][alone]
            )


def main():
    connection.connect(start_timeout_seconds=300, lost_after_seconds=60)
    cases = read_all(json.loads(sys.argv[1]), jax.process_index(), jax.process_count())
    np.savez(f'{sys.argv[2]}/{jax.process_index()}.npz', **placed(cases))


if __name__ == '__main__':
    main()
