"""Job descriptions for schedulers that exist: one job of an array is one run.

The configurations are stored first, each in the work directory of its run; a job reads its own.
Finished runs are left out, so printing again after failures gives the jobs that remain. Nothing
is submitted here. Accelerators, account, image and time limit differ from site to site: what is
in <angle brackets> has to be filled in.
"""

import json
import shlex
from collections.abc import Callable

from resnet_rs.config.stored import write_config
from resnet_rs.sweep.definition import SweepRun
from resnet_rs.sweep.directory import claim, is_finished


def prepare(runs: list[SweepRun], workdir: str, sweep: str) -> list[SweepRun]:
    """Stores every configuration and returns the runs that are not finished."""
    if '://' not in workdir:
        claim(workdir, sweep)
    for run in runs:
        write_config(run.directory, run.config)
    return [run for run in runs if not is_finished(run)]


def slurm(runs: list[SweepRun], workdir: str) -> str:
    """A batch script for sbatch; SIGTERM two minutes before the limit, so that runs save."""
    names = ' '.join(shlex.quote(run.name) for run in runs)
    return f"""#!/bin/bash
#SBATCH --job-name=sweep
#SBATCH --array=0-{len(runs) - 1}
#SBATCH --output={workdir}/slurm-%A_%a.txt
#SBATCH --time=<HH:MM:SS>
#SBATCH --gres=<ACCELERATORS>
#SBATCH --signal=TERM@120
#SBATCH --requeue
runs=({names})
directory={shlex.quote(workdir)}/${{runs[$SLURM_ARRAY_TASK_ID]}}
exec srun python main.py --config=configs/stored.py:"$directory" --workdir="$directory"
"""


def gke(runs: list[SweepRun], workdir: str) -> str:
    """An indexed Kubernetes Job, as JSON for kubectl apply -f."""
    script = (
        f'runs=({" ".join(shlex.quote(run.name) for run in runs)})\n'
        f'directory={shlex.quote(workdir)}/${{runs[$JOB_COMPLETION_INDEX]}}\n'
        'exec python main.py --config=configs/stored.py:"$directory" --workdir="$directory"\n'
    )
    job = {
        'apiVersion': 'batch/v1',
        'kind': 'Job',
        'metadata': {'name': 'sweep'},
        'spec': {
            'completionMode': 'Indexed',
            'completions': len(runs),
            'parallelism': len(runs),
            'backoffLimitPerIndex': 1,
            'template': {
                'spec': {
                    'restartPolicy': 'Never',
                    'terminationGracePeriodSeconds': 120,
                    'nodeSelector': {
                        'cloud.google.com/gke-tpu-accelerator': '<TPU TYPE>',
                        'cloud.google.com/gke-tpu-topology': '<TOPOLOGY>',
                    },
                    'containers': [
                        {
                            'name': 'run',
                            'image': '<IMAGE WITH THIS CHECKOUT AS WORKING DIRECTORY>',
                            'command': ['bash', '-c', script],
                            'resources': {'limits': {'google.com/tpu': '<CHIPS PER HOST>'}},
                        }
                    ],
                }
            },
        },
    }
    return json.dumps(job, indent=2)


def queued_resources(runs: list[SweepRun], workdir: str) -> str:
    """A shell script that asks for one TPU per run; its start-up script executes the run."""
    requests = []
    for number, run in enumerate(runs):
        directory = shlex.quote(run.directory)
        requests.append(f"""
# {run.name}
cat > sweep-{number}.sh <<'END'
#!/bin/bash
cd <CHECKOUT ON THE TPU VM> && exec .venv/bin/python main.py \\
  --config=configs/stored.py:{directory} --workdir={directory}
END
gcloud compute tpus queued-resources create sweep-{number} --node-id=sweep-{number} \\
  --zone=<ZONE> --accelerator-type=<TYPE> --runtime-version=<VERSION> \\
  --metadata-from-file=startup-script=sweep-{number}.sh
""")
    return '#!/bin/bash\n' + ''.join(requests)


SCHEDULERS: dict[str, Callable[[list[SweepRun], str], str]] = {
    'slurm': slurm,
    'gke': gke,
    'queued_resources': queued_resources,
}
