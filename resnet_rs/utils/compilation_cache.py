"""JAX's compilation cache on disk, so that a resumed run starts at once."""

import os
import pathlib

import jax


def enable() -> None:
    """Keeps programs in $JAX_COMPILATION_CACHE_DIR, or else in ~/.cache/resnet_rs/programs.

    jax keys them by program, devices, flags and versions. Small ones are kept too: drawing the
    parameters of a network compiles a few dozen.
    """
    directory = pathlib.Path.home() / '.cache' / 'resnet_rs' / 'programs'
    if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
        jax.config.update('jax_compilation_cache_dir', str(directory))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
