"""Mixup and CutMix on the device: every image of a batch is mixed with a partner.

Mixup (Zhang et al. 2018, arXiv 1710.09412) blends two images, CutMix (Yun et al. 2019,
arXiv 1905.04899) pastes a box of one into the other; the targets are blended by the same share.
As in GluonCV's script there is one draw per batch and the partners are the batch in reverse order.
Label smoothing acts on both one-hot vectors before they are blended; cross entropy is linear in
its target, so the loss is the blend of the two losses.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections


def is_mixed(config: ml_collections.ConfigDict) -> bool:
    """Whether `config` asks for mixup or CutMix at all."""
    return bool(config.data.mixup_alpha or config.data.cutmix_alpha)


def with_partners(batch: dict, config: ml_collections.ConfigDict, rng: jax.Array) -> dict:
    """Adds to a batch of B examples what `mix_images` and the loss need of their partners.

    Added are 'partner_image' and 'partner_label', the batch in reverse order; 'pasted', bool
    [B, S, S], where the partner's pixels are taken whole; 'blend', float32 [B], the image's share
    of all other pixels; 'share', float32 [B], the image's share in the target.

    A draw is Beta(alpha, alpha); where both alphas are set, each is used in half of the batches.
    An example whose partner is masked (an undecodable image) stays as it is.
    """
    size = batch['image'].shape[1]
    which, draw, place = jax.random.split(rng, 3)
    mixup, cutmix = config.data.mixup_alpha, config.data.cutmix_alpha
    cuts = jnp.asarray(not mixup) if not (mixup and cutmix) else jax.random.bernoulli(which)
    alpha = jnp.where(cuts, cutmix, mixup)
    share = jax.random.beta(draw, alpha, alpha)
    box = random_box(place, size, 1 - share) & cuts
    # The box may be cut off at the border: what is left of it decides.
    share = jnp.where(cuts, 1 - box.mean(dtype=jnp.float32), share)
    mixes = batch['mask'][::-1] > 0
    return batch | {
        'partner_image': batch['image'][::-1],
        'partner_label': batch['label'][::-1],
        'pasted': mixes[:, None, None] & box,
        'blend': jnp.where(mixes & ~cuts, share, 1.0),
        'share': jnp.where(mixes, share, 1.0),
    }


def random_box(rng: jax.Array, size: int, area: jax.Array) -> jax.Array:
    """A square of a share `area` of the image about a uniform centre, bool [size, size]."""
    side = jnp.round(size * jnp.sqrt(area)).astype(jnp.int32)
    first = jax.random.randint(rng, (2,), 0, size) - side // 2
    pixels = jnp.arange(size)
    inside = (pixels >= first[:, None]) & (pixels < first[:, None] + side)
    return inside[0][:, None] & inside[1][None]


def mix_images(images: jax.Array, partners: jax.Array, batch: dict) -> jax.Array:
    """Normalised images [B, S, S, 3] with their partners, by 'blend' and 'pasted' of the batch."""
    blend = batch['blend'][:, None, None, None]
    mixed = blend * images + (1 - blend) * partners
    return jnp.where(batch['pasted'][..., None], partners, mixed)


def mixed_over_labels(of_label: Callable[[jax.Array], jax.Array], batch: dict) -> jax.Array:
    """Returns `of_label(label)` [..., B]; of a mixed batch its mean over both labels by 'share'."""
    values = of_label(batch['label'])
    if 'partner_label' not in batch:
        return values
    of_partner = of_label(batch['partner_label'])
    return batch['share'] * values + (1 - batch['share']) * of_partner
