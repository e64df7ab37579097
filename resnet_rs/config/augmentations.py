"""The names of augmentations, and of the operations that RandAugment draws from."""

AUGMENTATIONS = (
    'none',
    'randaugment',
    'randaugment_model_garden',
    'autoaugment_v0',
    'autoaugment_imagenet',
    'color_jitter_lighting',
    'hue_jitter_lighting',
)
RANDAUGMENT_OPERATIONS = (
    'AutoContrast',
    'Equalize',
    'Invert',
    'Rotate',
    'Posterize',
    'Solarize',
    'Color',
    'Contrast',
    'Brightness',
    'Sharpness',
    'ShearX',
    'ShearY',
    'TranslateX',
    'TranslateY',
    'Cutout',
    'SolarizeAdd',
)
