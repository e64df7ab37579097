"""A work directory written at commit 0527f25 resumes, evaluates and predicts as it did then."""

import pathlib
import tarfile

import numpy as np
import pytest
from helpers import prepared
from helpers.processes import finish, start
from PIL import Image

from resnet_rs.predict import predict
from resnet_rs.run.run_log import read_metrics

ARCHIVE = pathlib.Path(__file__).with_name('data') / 'work_directory_0527f25.tar.xz'


@pytest.fixture(scope='module')
def extracted(tmp_path_factory):
    directory = tmp_path_factory.mktemp('old')
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(directory, filter='data')
    (directory / 'uninterrupted.jsonl').rename(directory / 'metrics.jsonl')
    return directory


def test_it_predicts(extracted, tmp_path):
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / 'a.png')
    (prediction,) = predict(extracted / 'run', [tmp_path / 'a.png'], top=10)
    assert sorted(number for number, _, _ in prediction.classes) == list(range(10))
    assert sum(chance for _, _, chance in prediction.classes) == pytest.approx(1)


def test_it_resumes_and_evaluates_to_the_same_numbers(extracted):
    """The rest of the run, on one device as then, against what the old code computed."""
    data = prepared.data_dir('digits', 'array_record')
    run = extracted / 'run'
    ((status, _, errors),) = finish(
        start(
            1,
            'main.py',
            f'--config=configs/stored.py:{run}',
            f'--workdir={run}',
            f'--config.data.data_dir={data}',
        )
    )
    assert status == 0, errors[-2000:]
    found, expected = (
        {(line.pop('step'), line.pop('kind')): line for line in read_metrics(directory)}
        for directory in (run, extracted)
    )
    assert found.keys() == expected.keys() and len(found) == 7
    for where, values in expected.items():
        values.pop('time')
        for name, value in values.items():
            np.testing.assert_allclose(
                found[where][name], value, rtol=1e-4, atol=1e-6, err_msg=f'{name} at {where}'
            )
