"""Compiles the steps of a configuration for TPUs that are not attached (docs/plan.md).

python -m resnet_rs.plan --config=configs/resnet_rs.py:50@160 --topology=v3:2x2,v5e:4x4
"""

import hashlib
import json
import sys
import threading
import time

from absl import flags
from ml_collections import config_flags

from resnet_rs.config import command_line, mixture, validation
from resnet_rs.datasets.locate import KNOWN_SIZES, find_dataset
from resnet_rs.plan import host
from resnet_rs.plan import topology as topologies
from resnet_rs.run import preflight
from resnet_rs.utils.errors import UserError, count_of, one_line_errors
from resnet_rs.utils.log_lines import log_for_people


def main(arguments: list[str] | None = None) -> None:
    """Plans for every topology; a user error prints one line and exits with status 2."""
    arguments = sys.argv if arguments is None else [sys.argv[0], *arguments]
    with one_line_errors(UserError, flags.Error, OSError):
        options = parse(arguments)
        if options.help:
            print(__doc__, options.get_help(), sep='\n')
            return
        run(options)


def run(options: flags.FlagValues) -> None:
    config = options.config
    if config is None:
        raise UserError('--config is missing; for instance --config=configs/resnet_rs.py:50@160')
    if not options.topology:
        raise UserError('--topology is missing; for instance --topology=v3:2x2')
    validation.check_settings(config)
    cost = host.input_cost(config, options.input_ms_per_image)
    config = preflight.with_sizes_of_data(config)
    sizes = split_sizes(config, options.examples, options.eval_examples)
    preflight.check_durations(config, sizes[0])
    names = [
        topologies.slice_name(name) for text in options.topology for name in text.split(',') if name
    ]
    for name in names:
        topologies.check_name(name)
    topologies.check_libtpu()
    topologies.prepare_environment()

    from resnet_rs.plan import (  # JAX reads the environment when it is imported
        fit,
        planning,
        report,
    )

    slices = [topologies.open_topology(name, options.devices) for name in names]
    for each in slices:
        check_processes(each, options.processes)
    wanted = planning.Options(
        steps=options.steps,
        cache_dir=None if options.no_cache else options.cache_dir,
        search=options.search,
        hlo_dump=options.hlo_dump,
        verbose=options.verbose,
    )
    plans = []
    for each in slices:
        planned, per_device = config, options.batch_per_device
        if per_device:
            planned = fit.with_batch(config, len(each.devices), per_device)
        plan = planning.make_plan(planned, each, sizes, wanted, Stage)
        plan.host = host.host_record(plan.topology, plan.steps.get('train'), cost)
        plans.append(plan)
        print(report.describe(plan, options.details), flush=True)
    if len(plans) > 1:
        print('\n' + report.comparison(plans))
    settings = config.to_dict()
    directory = options.output or default_output(settings, names, options)
    written = report.write(directory, plans, settings)
    print(f'wrote {", ".join(path.name for path in written)} in {directory}')
    if any(plan.fit for plan in plans):
        sys.exit(1)


def parse(arguments: list[str]) -> flags.FlagValues:
    """Parses the command's flags into a new FlagValues; raises flags.Error."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        'config',
        help_string='File that has get_config().',
        flag_values=values,
        sys_argv=arguments,
    )
    values_of = dict(flag_values=values)
    flags.DEFINE_multi_string(
        'topology',
        [],
        'Generation and slice, such as v3:2x2; several with commas or by repetition.',
        **values_of,
    )
    flags.DEFINE_integer('devices', None, 'The first N devices alone.', 1, **values_of)
    flags.DEFINE_integer('processes', None, 'Processes of the run.', 1, **values_of)
    flags.DEFINE_integer(
        'batch_per_device',
        None,
        'Images per device, instead of batch_size over the slice.',
        1,
        **values_of,
    )
    flags.DEFINE_list('steps', ['train', 'eval', 'inference'], 'What to compile.', **values_of)
    flags.DEFINE_boolean(
        'search',
        True,
        'If a step does not fit, look for a batch and options that fit.',
        **values_of,
    )
    flags.DEFINE_integer('examples', None, 'Training examples of the dataset.', 1, **values_of)
    flags.DEFINE_integer('eval_examples', None, 'Evaluation examples.', 1, **values_of)
    flags.DEFINE_float(
        'input_ms_per_image',
        None,
        'CPU milliseconds of the input pipeline per training image, instead of the measured ones.',
        **values_of,
    )
    flags.DEFINE_string('output', None, 'Directory of plan.json and plan.csv.', **values_of)
    flags.DEFINE_string('hlo_dump', None, 'Directory for the optimised HLO.', **values_of)
    flags.DEFINE_string(
        'cache_dir', str(topologies.CACHE_DIRECTORY), 'Directory of the cache.', **values_of
    )
    flags.DEFINE_boolean('no_cache', False, 'Neither use nor keep results.', **values_of)
    flags.DEFINE_boolean(
        'details', False, 'Show where the memory and the time of each step go.', **values_of
    )
    flags.DEFINE_boolean('verbose', False, "Show the compiler's own messages.", **values_of)
    flags.DEFINE_boolean('help', False, 'Show this.', **values_of)
    rest = command_line.parse_flags(values, arguments)[1:]
    if rest:
        raise UserError(f'{rest[0]!r} is not a flag; write --name=value')
    if unknown := set(values.steps) - {'train', 'eval', 'inference'}:
        raise UserError(f'--steps has {sorted(unknown)}; there are train, eval and inference')
    return values


def split_sizes(config, examples: int | None, eval_examples: int | None) -> tuple[int, int]:
    """Returns the examples of the training and the evaluation split, which need not be here.

    Raises UserError if the sizes are neither in the flags, nor known, nor in a prepared dataset.
    """
    known = {}
    if config.data.source == 'tfds' and not config.data.classes:  # these leave images out
        known = KNOWN_SIZES.get(config.data.name.partition(':')[0].partition('/')[0], {})

    def size(given, split, flag):
        if given or split in known:
            return given or known[split]
        try:
            return find_dataset(config.data).split(split).num_examples
        except UserError as error:
            raise UserError(
                f'the size of {split!r} is not known: give --{flag}; otherwise {error}'
            ) from error

    return (
        mixture.images_per_epoch(config, size(examples, config.data.train_split, 'examples')),
        size(eval_examples, config.data.eval_split, 'eval_examples'),
    )


def check_processes(topology: topologies.Topology, processes: int | None) -> None:
    """Raises UserError unless `processes` equals the number of hosts of the slice."""
    if processes and processes != topology.hosts:
        raise UserError(
            f'--processes={processes}, but {topology.name} has {count_of(topology.hosts, "host")}; '
            'a slice runs one process on each'
        )


def default_output(settings: dict, names: list[str], options: flags.FlagValues) -> str:
    """Returns a directory runs/plan/... that differs for other settings."""
    asked = [settings, names, options.devices, options.batch_per_device, options.steps]
    digest = hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:8]
    pixels = settings['data']['image_size']
    return f'runs/plan/{settings["model"]["name"]}_{pixels}_{digest}'


class Stage:
    """A line on stderr with the current work and its seconds; a terminal shows each second."""

    def __init__(self, what: str):
        self.what = what
        self._done = threading.Event()
        self._terminal = sys.stderr.isatty()

    def __enter__(self):
        self._start = time.monotonic()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._done.set()
        self._thread.join()
        if self._terminal:
            print(end='\r\033[K', file=sys.stderr, flush=True)

    def _tick(self):
        every = 1 if self._terminal else 30
        self._show()
        while not self._done.wait(every):
            self._show()

    def _show(self):
        text = f'{self.what}: {time.monotonic() - self._start:.0f} s'
        if self._terminal:
            print(f'\r\033[K{text}', end='', file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


if __name__ == '__main__':
    log_for_people()
    main()
