"""From a video, a file or a folder of frames or an array, to the views of evaluation."""

import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np

from resnet_rs.config import eval_image_size
from resnet_rs.datasets import video_file
from resnet_rs.datasets.image_folder import (
    IMAGE_SUFFIXES,
    identity,
    is_hidden_folder,
    read_entries,
)
from resnet_rs.datasets.splits import SplitInfo
from resnet_rs.datasets.video_file import VIDEO_SUFFIXES
from resnet_rs.datasets.video_folder import frames_in, video_files_in
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.natural_order import natural_key
from resnet_rs.utils.platforms import keep_devices_from_tensorflow

Videos = str | os.PathLike | np.ndarray | Sequence[str | os.PathLike | np.ndarray]
_REASONS = ('a video without frames', 'the frames of a video have different sizes')
_STRIP_GAP = 2  # pixels


@dataclasses.dataclass(frozen=True)
class ClipPreprocessing:
    """The preprocessing of evaluation of a network for clips, up to pixels.

    image_size: side of the network's input in pixels.
    crop: 'fraction 1', the part of the shorter side that a crop has (config.data.eval_crop).
    kernel: the interpolation, such as 'bilinear' (config.data.resize).
    mean, deviation: those of red, green and blue, for pixels of 0 to 255.
    frames, frame_stride: of a clip.
    clips, crops: evenly spaced clips of a video, and 1 or 3 crops of each.
    """

    image_size: int
    crop: str
    kernel: str
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    frames: int
    frame_stride: int
    clips: int = 1
    crops: int = 1

    @property
    def span(self) -> int:
        """The frames of a video from the first to the last of a clip."""
        return (self.frames - 1) * self.frame_stride + 1

    def views(self, videos: Videos) -> np.ndarray:
        """Returns the views of each video, uint8 [videos, crops * clips, frames, S, S, 3].

        S is `image_size`. A clip repeats a video that is too short for it.

        Args:
          videos: files of videos, folders of frames, and arrays of frames, uint8 [frames, height,
            width, 3]; or one of them.

        Raises UserError for a video without frames, with a frame that it needs and that cannot be
        decoded, and with frames of different sizes.
        """
        keep_devices_from_tensorflow()
        if isinstance(videos, str | os.PathLike) or getattr(videos, 'ndim', 5) == 4:
            videos = [videos]
        if not len(videos):
            raise UserError('there are no videos; preprocessing takes one or more')
        return np.stack([self._views_of(video) for video in videos])

    def unreadable(self, files: Sequence[str | os.PathLike]) -> dict[str, str]:
        """Returns {file: what is wrong} for the videos whose views cannot be decoded."""

        def problem(file):
            try:
                self._views_of(file)
            except UserError as error:
                return str(error)

        keep_devices_from_tensorflow()
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            problems = threads.map(problem, files)
            return {str(file): text for file, text in zip(files, problems, strict=True) if text}

    def strip(self, video: str | os.PathLike, most: int = 8) -> np.ndarray:
        """Returns up to `most` frames of the middle view side by side, uint8 [S, width, 3]."""
        views = self._views_of(video)
        middle = views[self.crops // 2 * self.clips + self.clips // 2]
        chosen = np.linspace(0, self.frames - 1, min(most, self.frames)).round().astype(int)
        gap = np.full((self.image_size, _STRIP_GAP, 3), 255, np.uint8)
        parts = [part for number in chosen for part in (gap, middle[number])]
        return np.concatenate(parts[1:], axis=1)

    def settings(self) -> ml_collections.ConfigDict:
        """Returns the settings of a configuration that the preprocessing follows."""
        data = {
            'eval_crop': self.crop,
            'resize': self.kernel,
            'frames': self.frames,
            'frame_stride': self.frame_stride,
            'mean_rgb': self.mean,
            'std_rgb': self.deviation,
        }
        return ml_collections.ConfigDict({'data': data})

    def _views_of(self, video) -> np.ndarray:
        import tensorflow as tf  # takes seconds

        from resnet_rs.datasets.clips import evaluation_transform, frames_of
        from resnet_rs.datasets.images import silent_libraries

        is_array = not isinstance(video, str | os.PathLike)
        if is_array:
            form, content = 'pixels', _checked(video)
        else:
            form, content = video_form(video), os.fspath(video)
        split = SplitInfo('', 1, video_form=form)
        transform = evaluation_transform(
            self.settings().data, split, self.image_size, self.clips, self.crops
        )
        try:
            with silent_libraries():
                return transform(frames_of(split, tf.constant(content))).numpy()
        except (tf.errors.OpError, video_file.VideoError) as error:
            is_told = isinstance(error, video_file.VideoError)
            reason = str(error) if is_told else _reason(str(error))
            raise UserError(f'{video} cannot be decoded: {reason}') from error


def clip_preprocessing_of(
    config: ml_collections.ConfigDict, image_size: int | None = None
) -> ClipPreprocessing:
    """Returns the preprocessing of evaluation of a run on clips, at `image_size` pixels or its own.

    The views are those of config.eval.
    """
    return ClipPreprocessing(
        image_size=image_size or eval_image_size(config),
        crop=config.data.eval_crop,
        kernel=config.data.resize,
        mean=tuple(config.data.mean_rgb),
        deviation=tuple(config.data.std_rgb),
        frames=config.data.frames,
        frame_stride=config.data.frame_stride,
        clips=config.eval.clips,
        crops=config.eval.crops,
    )


def video_form(path: str | os.PathLike) -> str:
    """Returns 'folder' for a folder of frames and 'file' for a video file, as SplitInfo has them.

    Raises UserError for a file without a decoder.
    """
    if os.path.isdir(path):
        return 'folder'
    video_file.check_decoder(os.fspath(path))
    return 'file'


def frame_count(path: str | os.PathLike) -> int:
    """Returns the number of frames of a readable video file or folder of frames."""
    if video_form(path) == 'folder':
        return len(frames_in(os.listdir(path)))
    return video_file.count_frames(os.fspath(path))


def find_videos(paths: Sequence[str]) -> list[pathlib.Path]:
    """Returns the named videos, and those in the named folders and their subfolders, sorted.

    A video is a file, or a folder that holds images, its frames, and no file of a video. Hidden
    files and folders are left out, as in training. Raises UserError for a path that does not exist,
    for a folder without videos and for an image.
    """
    videos = []
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            found = _videos_below(path, set(map(identity, path.absolute().parents)))
            if not found:
                raise UserError(
                    f'{path} holds no video; a video is a folder of frames '
                    f'({", ".join(IMAGE_SUFFIXES)}), or a file ({", ".join(VIDEO_SUFFIXES)})'
                )
            videos += found
        elif not path.exists():
            raise UserError(f'{path} does not exist')
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            raise UserError(
                f'{path} is an image; the network takes videos: name a folder of frames, or a '
                'video file'
            )
        else:
            videos.append(path)
    return videos


def _videos_below(folder: pathlib.Path, above: set) -> list[pathlib.Path]:
    if (here := identity(folder)) in above:  # a link to a folder around it
        return []
    files, folders = read_entries(folder)
    videos = video_files_in(files)
    if frames_in(files) and not videos:
        return [folder]
    folders = {name for name in folders if not is_hidden_folder(name)}
    found = []
    for name in sorted([*videos, *folders], key=natural_key):
        found += (
            _videos_below(folder / name, above | {here}) if name in folders else [folder / name]
        )
    return found


def _checked(frames) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UserError(
            f'a video is {frames.dtype}{list(frames.shape)}; preprocessing takes uint8 [frames, '
            'height, width, 3] with values of 0 to 255, files of videos and folders of frames'
        )
    return frames


def _reason(message: str) -> str:
    """Returns the part of TensorFlow's message that says what is wrong with a video."""
    known = [reason for reason in _REASONS if reason in message]
    return known[0] if known else 'a frame is damaged, or no image'
