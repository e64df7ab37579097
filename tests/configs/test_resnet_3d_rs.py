"""The recipe on Kinetics-400: one host of its memory holds the batches of every evaluation."""

import pytest

from configs import resnet_3d_rs, video_study
from resnet_rs.config import eval_image_size
from resnet_rs.config.evaluations import evaluation_config, evaluation_names
from resnet_rs.datasets.memory import check_evaluation


@pytest.mark.parametrize('config', [resnet_3d_rs.get_config(), video_study.get_config()])
def test_the_thirty_views_fit_one_host(config):
    for name in evaluation_names(config):
        of_this = evaluation_config(config, name)
        check_evaluation(of_this, of_this.eval.batch_size, eval_image_size(of_this))
