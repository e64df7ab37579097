"""The logs of a run in its work directory.

metrics.jsonl      one JSON object a line: step, kind ('train', 'eval' or, of an evaluation in
                   config.evals, 'eval/NAME'), values, and timings and memory under 'time'; all
                   else is deterministic given the configuration
environment.json   versions, commit, devices and command of the latest start before the run's end
TensorBoard event files, written through clu
"""

import dataclasses
import json
import os
import resource

from etils import epath

from resnet_rs.config import flatten
from resnet_rs.utils.environment import describe_environment
from resnet_rs.utils.errors import UserError
from resnet_rs.utils.files import parse_json, read_text, replacing

METRICS_FILE = 'metrics.jsonl'
PREDICTIONS_FILE = 'predictions.npz'
ENVIRONMENT_FILE = 'environment.json'
PAGE_FILE = 'report.html'


class RunLog:
    """Writer of metrics.jsonl and TensorBoard events; process 0 alone touches files.

    `resumed_step` is the step of the checkpoint that the run resumes from, 0 for a new run. Later
    lines of the interrupted run are removed, because the run repeats their steps.
    """

    def __init__(self, workdir: str | os.PathLike, config, resumed_step: int):
        import jax  # jax and clu take seconds to import, and readers of a run need neither
        from clu import metric_writers

        self._path = epath.Path(workdir) / METRICS_FILE
        self._is_writer = jax.process_index() == 0
        if not self._is_writer:
            return
        # clu's default writer also logs every value, which would repeat the lines of Progress.
        self._writer = metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(workdir)))
        kept = [line for line in read_metrics(workdir) if line['step'] <= resumed_step]
        with replacing(self._path) as partial:
            partial.write_text(''.join(json.dumps(line) + '\n' for line in kept))
        if not is_reported(workdir):  # else the run ended in another environment than this
            with replacing(epath.Path(workdir) / ENVIRONMENT_FILE) as partial:
                partial.write_text(json.dumps(describe_environment(), indent=2) + '\n')
        if not resumed_step:
            self._writer.write_hparams(
                {
                    name: str(value) if isinstance(value, tuple) else value
                    for name, value in flatten(config.to_dict()).items()
                }
            )

    def write(self, step: int, kind: str, values: dict, time: dict[str, float]) -> None:
        """Adds one line with the `values` of the step, its timings `time` and the peak memory."""
        if not self._is_writer:
            return
        time = time | {'memory_bytes': peak_memory()}
        values = {name: float(value) for name, value in values.items()}
        scalars = {f'{kind}/{name}': value for name, value in values.items()}
        scalars |= {f'time/{name}': value for name, value in time.items()}
        self._writer.write_scalars(step, scalars)
        line = {'step': step, 'kind': kind, **values, 'time': time}
        with self._path.open('a') as file:
            file.write(json.dumps(line) + '\n')

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._is_writer:
            self._writer.close()


def parameter_table(params: dict) -> str:
    """Returns clu's overview of the parameters with one row for each stage, and their total.

    A row for each array, as clu has it, would be over a thousand lines for a deep network.
    """
    import jax
    from clu import parameter_overview

    rows = [
        ParameterRow(
            name,
            len(jax.tree.leaves(part)),
            int(parameter_overview.count_parameters(part)),
            sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(part)),
        )
        for name, part in sorted(params.items())
    ]
    columns = ('arrays', 'parameters', 'bytes')
    total = ParameterRow('total', *(sum(getattr(row, name) for row in rows) for name in columns))
    return parameter_overview.make_table([*rows, total])


@dataclasses.dataclass(frozen=True)
class ParameterRow:
    """A row of `parameter_table`; its fields name the columns."""

    name: str
    arrays: int
    parameters: int
    bytes: int


def is_reported(workdir: str | os.PathLike) -> bool:
    """Returns whether the last file that a finished run writes exists."""
    return (epath.Path(workdir) / PREDICTIONS_FILE).exists()


def read_metrics(
    workdir: str | os.PathLike, kind: str | None = None, needed: tuple[str, ...] = ()
) -> list[dict]:
    """Returns the lines of metrics.jsonl, without a last line that a kill cut short.

    Args:
      workdir: the work directory of a run.
      kind: 'train' or 'eval' for the lines of that kind alone.
      needed: the values that each returned line must have; 'time.NAME' is NAME in the line's
        'time'.

    Raises UserError for a damaged file and for a line without a needed value.
    """
    path = epath.Path(workdir) / METRICS_FILE
    if not path.exists():
        return []
    remedy = 'move it away to continue without it'
    lines = []
    for number, text in enumerate(read_text(path, remedy).split('\n')[:-1], start=1):
        line = parse_json(text, path, remedy)
        if problem := _problem_of(line, kind, needed):
            raise UserError(f'{path} is damaged (line {number} {problem}); {remedy}')
        if kind in (None, line['kind']):
            lines.append(line)
    return lines


def _problem_of(line, kind: str | None, needed: tuple[str, ...]) -> str:
    """Returns what is wrong with a line of metrics.jsonl, '' for a good one."""
    if not isinstance(line, dict):
        return 'is not an object'
    if not isinstance(line.get('step'), int) or not 0 <= line['step'] < 2**63:
        return f'has the step {line.get("step")!r:.40}'
    if not isinstance(line.get('kind'), str):
        return f'is of the kind {line.get("kind")!r:.40}'
    time = line.get('time', {})
    if not isinstance(time, dict):
        return f'has the time {time!r:.40}'
    values = {name: value for name, value in line.items() if name not in ('step', 'kind', 'time')}
    values |= {f'time.{name}': value for name, value in time.items()}
    for name, value in values.items():
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(value, float) and not (is_whole and abs(value) < 2**63):
            return f'has {value!r:.40} for {name:.40}'
    if kind not in (None, line['kind']):
        return ''
    missing = [name for name in needed if name not in values]
    return f'lacks {missing[0]}' if missing else ''


def peak_memory() -> int:
    """Returns the most bytes in use so far on any device; on CPUs those of the process itself."""
    import jax

    peaks = [
        (device.memory_stats() or {}).get('peak_bytes_in_use', 0) for device in jax.local_devices()
    ]
    return max(peaks) or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
