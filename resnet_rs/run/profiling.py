"""Traces of some steps of a run, for TensorBoard's profile plugin and XProf.

    tensorboard --logdir=WORKDIR      # with tensorboard-plugin-profile installed

shows WORKDIR/plugins/profile/steps_FIRST_LAST/, one file for each process.
"""

import contextlib
import os
import pathlib
import tempfile

import jax
from absl import logging
from etils import epath

from resnet_rs.utils.errors import UserError, count_of


class Profile:
    """Context manager that traces the steps from `steps[0]` to `steps[1]`.

    Its exit ends a running trace. A run that resumes within these steps traces the rest, a run that
    resumes after them nothing. Raises UserError for steps that the run does not have.
    """

    def __init__(self, steps: tuple[int, int] | None, workdir: str | os.PathLike, total_steps: int):
        self._first, self._last = steps or (0, -1)
        if self._last > total_steps:
            raise UserError(
                f'--profile_steps is {self._first}:{self._last}, but the run has '
                f'{count_of(total_steps, "step")}'
            )
        self._workdir = workdir
        self._trace = contextlib.ExitStack()
        self._step = contextlib.ExitStack()  # the annotation of the step that runs
        self._is_tracing = False

    def before(self, step: int, state) -> None:
        """Starts the trace; call it before each step, with the previous step's state."""
        if self._first <= step <= self._last:
            if not self._is_tracing:
                jax.block_until_ready(state)  # keeps earlier steps out of the trace
                self._trace.enter_context(_written_into(self._workdir, step, self._last))
                self._is_tracing = True
            self._step.enter_context(jax.profiler.StepTraceAnnotation('train', step_num=step))

    def after(self, step: int, state) -> None:
        """Ends the trace after its last step; call it after each step, with its state."""
        self._step.close()
        if self._is_tracing and step == self._last:
            jax.block_until_ready(state)
            self._trace.close()
            self._is_tracing = False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._step.close()
        self._trace.close()


@contextlib.contextmanager
def _written_into(workdir, first, last):
    """Traces until the context ends, and writes the file to `workdir`, which may be on a bucket.

    The processes of a run choose the same directory, so that their files form one trace.
    """
    directory = epath.Path(workdir) / 'plugins' / 'profile' / f'steps_{first}_{last}'
    with tempfile.TemporaryDirectory() as local:
        with jax.profiler.trace(local):
            yield
        (written,) = pathlib.Path(local).rglob('*.xplane.pb')
        directory.mkdir(parents=True, exist_ok=True)
        target = directory / f'process_{jax.process_index()}.xplane.pb'
        epath.Path(written).copy(target, overwrite=True)
    logging.info('traced steps %d to %d: %s', first, last, target)
