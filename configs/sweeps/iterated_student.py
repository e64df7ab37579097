"""Noisy Student iterated: a teacher, and three students, each of which labels for the next.

    python -m resnet_rs.datasets.prepare digits
    python -m resnet_rs.sweep --sweep=configs/sweeps/iterated_student.py --workdir=DIR

Four trainings and three labellings, not run. As it stands it takes 200 labelled digits and `digits`
of configs/pseudo_labels.py. For a row of the paper, set ROW to 'b0' to 'b7', TEACHER to that
network's configuration, `configs.efficientnet.get_config(ROW)`, and IMAGES to the second dataset:
('--data=NAME', '--split=train', '--top=10'). The paper's three students are larger than their
teacher (Xie et al. 2020, section 4.1: L2 after B7).
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import digits, pseudo_labels
from resnet_rs.sweep.definition import Command

STUDENTS = 3
ROW = 'digits'
TEACHER = digits.get_config()
LABELLED = pseudo_labels.DIGITS['data.train_split']
IMAGES = ('--split=train[200:]',)


def get_sweep(workdir: str) -> Iterator[tuple[str, ConfigDict | Command]]:
    """Yields (name, run) of every run in the sweep's directory `workdir`."""
    teacher = TEACHER.copy_and_resolve_references().unlock()
    teacher.data.train_split = LABELLED
    before = 'teacher'
    yield before, teacher.lock()
    for number in range(1, STUDENTS + 1):
        labels = f'labels{number}'
        arguments = (f'--workdir={workdir}/{before}', *IMAGES)
        yield labels, Command('pseudo_label', arguments, 'labels.npz')
        student = pseudo_labels.get_config(ROW).unlock()
        student.pseudo_labels.file = f'{workdir}/{labels}/labels.npz'
        before = f'student{number}'
        yield before, student.lock()
