"""The changes that make whole runs quick, for laws of runs that hold for any network.

`python tests/helpers/small_runs.py FILE ARGUMENT...` runs a file with them in its own process.
"""

import runpy
import sys
import types

from resnet_rs.models.variants import VARIANTS


def shorten_networks(set_item=dict.__setitem__) -> None:
    """Gives networks of 14 layers one stage in place of four: they compile in a quarter of the
    time. `set_item` of a MonkeyPatch can undo it.
    """
    for parts in VARIANTS.values():
        if parts['stage_sizes'] == (1, 1, 1, 1):
            set_item(parts, 'stage_sizes', (1,))


def leave_out_pictures(set_attribute=setattr) -> None:
    """Leaves out the pictures at the end of a run, which take longer than its steps."""
    from resnet_rs.run import report

    set_attribute(report, 'write', lambda *arguments: [])


def share_programs(set_attribute=setattr) -> None:
    """Lets the runs of one configuration share their functions, so that each is traced once."""
    import train_lib
    from resnet_rs.training import steps

    programs = {}

    def create_program(config, mesh, examples):
        stages = tuple(parts['stage_sizes'] for parts in VARIANTS.values())
        key = config.to_json_best_effort(sort_keys=True), mesh, examples, stages
        if key not in programs:
            programs[key] = steps.create_program(config, mesh, examples)
        return programs[key]

    set_attribute(train_lib, 'create_program', create_program)


def leave_out_keras() -> None:
    """Saves a process the two seconds of Keras, which clu's writers import for a callback."""
    name = 'tensorboard.plugins.hparams._keras'
    sys.modules[name] = types.SimpleNamespace(Callback=None)


if __name__ == '__main__':
    shorten_networks()
    leave_out_keras()
    leave_out_pictures()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name='__main__')
