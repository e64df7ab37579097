"""The teacher's own crop: the pixels of a pipeline of its size, mixed like the student's image."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import prepared

import input_pipeline
from configs import distillation
from resnet_rs.config.validation import check_settings
from resnet_rs.training.mixing import mix_images, with_partners
from resnet_rs.training.objectives import distilled
from resnet_rs.training.steps import batch_shapes
from resnet_rs.utils.errors import UserError

STUDENT, TEACHER = 16, 40


def config(source, **settings):
    made = prepared.config(source, image_size=STUDENT)
    made.objective = 'distillation'
    made.distillation.teacher, made.distillation.image_size = 'TEACHER', TEACHER
    made.distillation.second_crop = True
    made.update_from_flattened_dict(settings)
    return made


@pytest.mark.parametrize('source', ['image_folder', 'array_record'])
def test_both_crops_are_those_of_pipelines_of_their_sizes(source):
    both = next(input_pipeline.train_batches(config(source), first_step=3))
    for name, size in (('image', STUDENT), ('teacher_image', TEACHER)):
        alone = config(source, **{'distillation.second_crop': False, 'data.image_size': size})
        batch = next(input_pipeline.train_batches(alone, first_step=3))
        assert 'teacher_image' not in batch
        np.testing.assert_array_equal(both[name], batch['image'])
        np.testing.assert_array_equal(both['label'], batch['label'])
    shapes = batch_shapes(config(source), 'train')
    assert {name: (s.shape, s.dtype) for name, s in shapes.items()} == {
        name: (array.shape, array.dtype) for name, array in both.items()
    }


def test_both_images_are_blended_by_the_same_share():
    random = np.random.default_rng(0)
    batch = {'label': np.arange(4), 'mask': np.array([1, 1, 0, 1])}
    batch |= {
        name: random.normal(size=(4, size, size, 3)).astype(np.float32)
        for name, size in (('image', STUDENT), ('teacher_image', TEACHER))
    }
    mixup = config('image_folder', **{'data.mixup_alpha': 1.0})
    mixed = with_partners(
        {name: jnp.asarray(value) for name, value in batch.items()}, mixup, jax.random.key(0)
    )
    share = float(mixed['share'][0])
    assert 0 < share < 1 and mixed['share'][1] == 1  # the partner of the second is masked
    for name in ('image', 'teacher_image'):
        found = mix_images(jnp.asarray(batch[name]), mixed[f'partner_{name}'], mixed)
        expected = share * batch[name] + (1 - share) * batch[name][::-1]
        expected[1] = batch[name][1]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_teacher_sees_its_own_crop():
    seen = []

    def logits(variables, images):
        seen.append(images)
        return jnp.zeros((2, 3))

    teacher = types.SimpleNamespace(logits=logits, shapes=dict)
    settings = config('image_folder').distillation
    objective = distilled(settings, 0.1, teacher)
    batch = {'image': jnp.zeros((2, 4)), 'teacher_image': jnp.ones((2, 9)), 'label': jnp.arange(2)}
    objective.losses(lambda images, rngs: (jnp.zeros((2, 3)), {}), batch, {}, {'teacher': {}})
    assert seen[0].shape == (2, 9)


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'distillation.image_size': 0}, 'distillation.image_size is 0; give the side of'),
        ({'data.augment': 'randaugment'}, "data.augment is 'randaugment', which would change both"),
        ({'data.cutmix_alpha': 1.0}, 'data.cutmix_alpha is 1.0, which would change both crops'),
        (
            {'objective': 'supervised', 'distillation.teacher': ''},
            "objective is 'supervised', which has no teacher",
        ),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message):
        check_settings(config('image_folder', **settings))


def test_the_row_of_funmatch():
    row = distillation.get_config('funmatch_384').unlock()
    row.distillation.teacher = 'TEACHER'
    check_settings(row)
    assert (row.data.image_size, row.distillation.image_size) == (224, 384)
