"""Batches put onto the devices while the step before them runs."""

import queue
import threading
from collections.abc import Iterable, Iterator

import jax

from resnet_rs.training.sharding import to_global

# Batches that are on the devices, or on their way, before they are asked for.
READ_AHEAD = 2


class DeviceBatches(Iterator):
    """The batches of `batches`, in their order, as global arrays over `mesh`.

    A thread reads them and starts their transfers, at most READ_AHEAD before they are asked for;
    it goes on while the caller waits for a result, evaluates or saves. What the thread meets is
    raised when the batch in whose place it stands is asked for. To be used in a `with` statement:
    at its end the thread has ended, and what was read ahead is dropped.

    Attributes:
      corrupt_images: how many undecodable images had been skipped (the attribute of this name of
        `batches`, where it has one) when the batch given last was read.
    """

    def __init__(self, batches: Iterable, mesh: jax.sharding.Mesh):
        self.corrupt_images = 0
        self._source = batches
        self._batches = iter(batches)
        self._mesh = mesh
        # One more is in the thread's hands.
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
                # Kept in no variable: a batch that was used shall not stay on the devices.
                self._ready.put(
                    (
                        to_global(next(self._batches), self._mesh),
                        self._skipped(),
                        None,
                    )
                )
        except BaseException as error:  # for the caller, the end of the batches too
            self._ready.put((None, self._skipped(), error))

    def _skipped(self) -> int:
        return getattr(self._source, 'corrupt_images', 0)

    def _drop(self):
        while not self._ready.empty():
            self._ready.get()
