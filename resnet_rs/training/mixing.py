"""Mixup and CutMix on the device, which mix every image of a batch with a partner.

Mixup (Zhang et al. 2018, arXiv 1710.09412) blends two images, CutMix (Yun et al. 2019,
arXiv 1905.04899) pastes a box of one into the other; both blend the targets by the same share.
As in GluonCV's script, there is one draw per batch, and the partners are the batch in reverse
order. Label smoothing acts on both one-hot vectors before they are blended. Cross entropy is linear
in its target, so the loss is the blend of the two losses.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

# The parts of a partner that the loss may need.
OF_PARTNER = ('label', 'is_pseudo', 'target')
IMAGES = ('image', 'teacher_image')


def is_mixed(config: ml_collections.ConfigDict) -> bool:
    """Returns whether `config` uses mixup or CutMix."""
    return bool(config.data.mixup_alpha or config.data.cutmix_alpha)


def with_partners(batch: dict, config: ml_collections.ConfigDict, rng: jax.Array) -> dict:
    """Adds to a batch of B examples the parts of their partners for `mix_images` and the loss.

    It adds 'partner_image', 'partner_label' and, of pseudo-labels, 'partner_is_pseudo' and
    'partner_target', the batch in reverse order; 'pasted', bool
    [B, S, S], the pixels to take from the partner; 'blend', float32 [B], the image's share of all
    other pixels; 'share', float32 [B], the image's share of the target.

    The shares are drawn from Beta(alpha, alpha). If both alphas are set, each acts on half of the
    batches. An example whose partner is masked (an undecodable image) stays unmixed.
    """
    size = batch['image'].shape[-2]
    which, draw, place = jax.random.split(rng, 3)
    mixup, cutmix = config.data.mixup_alpha, config.data.cutmix_alpha
    cuts = jnp.asarray(not mixup) if not (mixup and cutmix) else jax.random.bernoulli(which)
    alpha = jnp.where(cuts, cutmix, mixup)
    share = jax.random.beta(draw, alpha, alpha)
    box = random_square(place, size, 1 - share) & cuts
    # The border may clip the box, so the share follows from the pixels that remain.
    share = jnp.where(cuts, 1 - box.mean(dtype=jnp.float32), share)
    mixes = batch['mask'][::-1] > 0
    reversed_names = [name for name in (*OF_PARTNER, *IMAGES) if name in batch]
    partners = {f'partner_{name}': batch[name][::-1] for name in reversed_names}
    return (
        batch
        | partners
        | {
            'pasted': mixes[:, None, None] & box,
            'blend': jnp.where(mixes & ~cuts, share, 1.0),
            'share': jnp.where(mixes, share, 1.0),
        }
    )


def random_square(rng: jax.Array, size: int, area: jax.Array) -> jax.Array:
    """Draws a square that covers `area` of the image about a uniform centre, bool [size, size]."""
    side = jnp.round(size * jnp.sqrt(area)).astype(jnp.int32)
    first = jax.random.randint(rng, (2,), 0, size) - side // 2
    pixels = jnp.arange(size)
    inside = (pixels >= first[:, None]) & (pixels < first[:, None] + side)
    return inside[0][:, None] & inside[1][None]


def mix_images(images: jax.Array, partners: jax.Array, batch: dict) -> jax.Array:
    """Mixes normalised images [B, S, S, 3] with their partners by the batch's 'blend', 'pasted'.

    All frames of clips [B, frames, S, S, 3] are mixed alike. Images of another size than the box's
    are blended only.
    """
    of_time = tuple(range(1, images.ndim - 3))
    blend = batch['blend'].reshape(-1, *[1] * (images.ndim - 1))
    mixed = blend * images + (1 - blend) * partners
    if batch['pasted'].shape[1] != images.shape[-2]:
        return mixed
    pasted = jnp.expand_dims(batch['pasted'][..., None], of_time)
    return jnp.where(pasted, partners, mixed)


def mixed_over_labels(of_label: Callable[..., jax.Array], batch: dict, *more: str) -> jax.Array:
    """Returns `of_label(label, ...)` [..., B], averaged by 'share' over both labels of an image.

    `more` names the other parts in OF_PARTNER that `of_label` takes. A batch that is not mixed has
    one label for each image.
    """
    values = of_label(*(batch[name] for name in ('label', *more)))
    if 'partner_label' not in batch:
        return values
    of_partner = of_label(*(batch[f'partner_{name}'] for name in ('label', *more)))
    return batch['share'] * values + (1 - batch['share']) * of_partner
