"""Prefetching of batches to the devices."""

import queue
import threading
from collections.abc import Iterable, Iterator

import jax

from resnet_rs.training.sharding import to_global

# Batches whose transfer to the devices starts before they are requested.
READ_AHEAD = 2


class DeviceBatches(Iterator):
    """Iterator over `batches`, in order, as global arrays over `mesh`.

    A thread reads batches and starts their transfers, up to READ_AHEAD batches ahead, also while
    the caller waits for a result, evaluates or saves. An exception in the thread is raised by the
    `next()` whose batch it prevented. Use the iterator in a `with` statement: its end stops the
    thread and drops the prefetched batches.

    Attributes:
      corrupt_images: the number of undecodable images that had been skipped when the batch
        returned last was read (from the attribute of this name of `batches`, if it exists).
    """

    def __init__(self, batches: Iterable, mesh: jax.sharding.Mesh):
        self.corrupt_images = 0
        self._source = batches
        self._batches = iter(batches)
        self._mesh = mesh
        # The thread holds one more.
        self._ready = queue.Queue(READ_AHEAD - 1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name='device batches', daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._closed.set()
        while self._thread.is_alive():
            self._drop()
            self._thread.join(0.01)
        self._drop()
        self._batches = self._source = None

    def __next__(self) -> dict[str, jax.Array]:
        batch, corrupt_images, error = self._ready.get()
        if error is not None:
            self._ready.put((None, corrupt_images, error))
            raise error
        self.corrupt_images = corrupt_images
        return batch

    def _read(self):
        try:
            while not self._closed.is_set():
                # The batch gets no name: a local would keep a consumed batch on the devices.
                self._ready.put((to_global(next(self._batches), self._mesh), self._skipped(), None))
        except BaseException as error:  # the caller raises it, StopIteration included
            self._ready.put((None, self._skipped(), error))

    def _skipped(self) -> int:
        return getattr(self._source, 'corrupt_images', 0)

    def _drop(self):
        while not self._ready.empty():
            self._ready.get()
