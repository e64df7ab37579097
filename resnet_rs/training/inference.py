"""The outputs of a network for every image of a split, in evaluation mode."""

from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from resnet_rs.training.device_prefetch import DeviceBatches
from resnet_rs.training.networks import model_of, normalise
from resnet_rs.training.sharding import batch_sharding, replicated

PASSED_ON = ('index', 'label', 'mask')


def create_output_step(
    config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, output: str, top: int = 0
) -> Callable:
    """Returns step(variables, batch), the outputs for a batch of input_pipeline; all replicated.

    Args:
      config: the network's configuration, with its normalisation.
      mesh: the mesh over which the batch is sharded.
      output: 'pooled' features, float32 [batch, features], or 'probabilities', float32 [batch,
        classes].
      top: how many of the largest probabilities to return, descending, with their 'classes', int32
        [batch, top]; 0 for all in the order of the classes.

    The results have the batch's index, label and mask too.
    """
    model = model_of(config, batch_norm_group_size=None, scan_blocks=False)
    network_output = 'logits' if output == 'probabilities' else output

    def step(variables: dict, batch: dict) -> dict:
        images = normalise(batch['image'], config)
        values = model.apply(variables, images, False, output=network_output)
        results = {name: batch[name] for name in PASSED_ON}
        if output == 'probabilities':
            values = jax.nn.softmax(values.astype(jnp.float32))
        if top:
            values, results['classes'] = jax.lax.top_k(values, top)
        return results | {output: values.astype(jnp.float32)}

    everywhere, over_batch = replicated(mesh), batch_sharding(mesh)
    return jax.jit(step, in_shardings=(everywhere, over_batch), out_shardings=everywhere)


def outputs_of(
    step: Callable, variables: dict, batches: Iterable, mesh: jax.sharding.Mesh
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the results of `step` for each of `batches`, on the host; they include padding."""
    variables = jax.device_put(variables, replicated(mesh))
    with DeviceBatches(batches, mesh) as on_devices:
        waiting = None
        for batch in on_devices:
            results = step(variables, batch)
            if waiting is not None:  # the devices compute the next batch meanwhile
                yield jax.device_get(waiting)
            waiting = results
        if waiting is not None:
            yield jax.device_get(waiting)
