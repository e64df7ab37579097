"""The pooled features and the pixels of all images of two splits, for probes."""

import numpy as np

from resnet_rs.datasets.labels import read_labels
from resnet_rs.run.labelling import Images, find_images, load_network, settings_of
from resnet_rs.training.inference import create_output_step, outputs_of
from resnet_rs.training.probes import Split, held_out
from resnet_rs.training.sharding import check_divides, create_mesh
from resnet_rs.utils.errors import UserError, count_of


def find_splits(options) -> tuple[Images, Images]:
    """Returns the training and the test images that the options of resnet_rs.probe name."""
    return tuple(
        find_images(options.workdir, split, settings_of(options))
        for split in (options.train, options.test)
    )


def check_labels(train: Images, test: Images) -> None:
    """Raises UserError for a split in which not every image has one class."""
    for images, flag in ((train, '--train'), (test, '--test')):
        split = images.split
        if split.label_set_feature:
            raise UserError(
                f'{images.info.name} has sets of labels ({split.label_set_feature}), and a probe '
                'takes one class of each image; name another set with --data'
            )
        labels = read_labels(split, images.info.file_format)
        if unlabelled := int((labels < 0).sum()):
            raise UserError(
                f'{split.name} of {images.info.name} has {count_of(unlabelled, "image")} of '
                f'{len(labels):,} without a label; name a labelled split with {flag}'
            )


def check_shots(train: Images, shots: list[int], validation: float) -> None:
    """Raises UserError where a class has fewer images than the most shots.

    They are counted without the validation fraction.
    """
    if not shots:
        return
    labels = read_labels(train.split, train.info.file_format)
    kept, _ = held_out(labels, validation)
    counts = np.bincount(labels[kept], minlength=train.info.num_classes)
    lacking = int(counts.argmin())
    if counts[lacking] < max(shots):
        raise UserError(
            f'class {train.info.class_names[lacking]!r} has '
            f'{count_of(int(counts[lacking]), "image")} in {train.split.name} besides those held '
            f'out for validation, fewer than {max(shots)} shots; use fewer --shots'
        )


def compute(options, images: tuple[Images, Images], pixels: int) -> dict[str, tuple[Split, Split]]:
    """Returns {'features': (train, test), 'pixels': (train, test)}, each image computed once.

    Pixels are the evaluation crops, averaged over squares to a side of at most `pixels`. Images
    that cannot be decoded are left out. Raises RuntimeError unless every image was seen.
    """
    mesh = create_mesh()
    size = images[0].config.eval.batch_size
    check_divides('--batch_size', size, mesh.size, count_of(mesh.size, 'device'))
    variables, _ = load_network(options.workdir, options.checkpoint, mesh)
    step = create_output_step(images[0].config, mesh, 'pooled')
    found = {'features': [], 'pixels': []}
    for each in images:
        rows, small = [], []

        def batches(each=each, small=small):
            for batch in each.batches():
                small.append(_reduced(batch['image'], pixels)[batch['mask'] > 0])
                yield batch

        for outputs in outputs_of(step, variables, batches(), mesh):
            real = outputs['mask'] > 0
            rows.append({name: values[real] for name, values in outputs.items()})
        joined = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        if len(np.unique(joined['index'])) != len(joined['index']) or (
            each.config.data.corrupt_images == 'fail'
            and len(joined['index']) != each.split.num_examples
        ):
            raise RuntimeError(f'{len(joined["index"])} of {each.split.num_examples} images seen')
        labels = joined['label'].astype(np.int64)
        found['features'].append(Split(joined['pooled'], labels))
        found['pixels'].append(Split(np.concatenate(small), labels))
    return {name: tuple(splits) for name, splits in found.items()}


def _reduced(images: np.ndarray, pixels: int) -> np.ndarray:
    """Returns images uint8 [n, S, S, 3] as float32 [n, s * s * 3] with s at most `pixels`."""
    size = images.shape[1]
    side = -(-size // pixels)
    inside = size - size % side
    images = images[:, :inside, :inside].astype(np.float32) / 255
    shape = (len(images), inside // side, side, inside // side, side, 3)
    return images.reshape(shape).mean((2, 4)).reshape(len(images), -1)
