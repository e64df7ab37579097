"""The settings of videos, for the table in table.py, and the shapes that follow from them."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from resnet_rs.config import relations
from resnet_rs.config.setting import Change, Setting
from resnet_rs.utils.rules import Rule, whole

MOST_FRAMES = 4096


def crops(settings: Mapping[str, Any]) -> str:
    """Returns why videos do not have the crops, or ''; a relation of the table."""
    for name, only in (('data.eval_crop', 'squash'), ('data.train_crop', 'evaluation')):
        if settings['data.frames'] and settings[name] == only:
            return (
                f'{name} is {only!r}, which is for images, but data.frames is '
                f'{settings["data.frames"]}; use another --config.{name}'
            )
    return ''


def without_videos(settings: Mapping[str, Any]) -> str:
    """Returns which setting of videos has no effect on images, or ''; a relation of the table."""
    names = ('data.frame_stride', *(n for n in settings if n.endswith(('.clips', '.crops'))))
    for name in names:
        if settings[name] > 1 and not settings['data.frames']:
            return (
                f'{name} is {settings[name]}, which is for videos, but data.frames is 0; give the '
                f'frames of a clip with --config.data.frames, or use --config.{name}=1'
            )
    return ''


OF_DATA = {
    'data.frames': Setting(
        0,
        whole(0, MOST_FRAMES),
        'frames of a clip; 1: single frames of videos, for a network for images; 0: the data are '
        'images',
        relation=relations.frames,
    ),
    'data.frame_stride': Setting(
        1,
        whole(1, MOST_FRAMES),
        'distance from one frame of a clip to the next',
        relation=without_videos,
    ),
}
OF_EVALUATION = {
    'eval.clips': Setting(
        1,
        whole(1, 1000),
        'evenly spaced clips of a video whose probabilities are averaged',
        Change.EVALUATION,
    ),
    'eval.crops': Setting(
        1,
        Rule(int, '1 (the centre) or 3 (along the longer side)', lambda crops: crops in (1, 3)),
        'crops of every clip whose probabilities are averaged',
        Change.EVALUATION,
    ),
}


def clip_shape(config: ml_collections.ConfigDict, which: str) -> tuple[int, ...]:
    """Returns the axes of an example before height and width, in 'train' or 'eval' batches.

    They are (frames,), and (views, frames) in evaluation; () for images.
    """
    if not config.data.frames:
        return ()
    frames = (config.data.frames,) if config.data.frames > 1 else ()
    return frames if which == 'train' else (config.eval.clips * config.eval.crops, *frames)


def example_noun(config: ml_collections.ConfigDict, which: str = 'train') -> str:
    """Returns what an example of 'train' or 'eval' batches is, for messages.

    It is 'image', 'clip', or 'video' where an evaluation sees several views of each.
    """
    views = config.eval.clips * config.eval.crops
    if config.data.frames and which == 'eval' and views > 1:
        return 'video'
    return 'clip' if config.data.frames > 1 else 'image'
