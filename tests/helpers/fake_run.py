"""Stand-in for main.py: does in a directory what the first line of its file `todo` says."""

import json
import os
import pathlib
import signal
import sys
import time

directory = pathlib.Path(sys.argv[1])
todo = (directory / 'todo').read_text().split()
(directory / 'todo').write_text('\n'.join(todo[1:]))
checkpoints = directory / 'checkpoints'
with (directory / 'started').open('a') as file:
    file.write(f'{todo[0]} {time.time()}\n')


def save(step):
    (checkpoints / str(step)).mkdir(parents=True, exist_ok=True)


def wait_for_sigterm():
    signal.signal(signal.SIGTERM, lambda *_: (save(4), sys.exit(75)))
    (directory / 'waiting').touch()
    time.sleep(60)


def finish():
    save(10)
    with (directory / 'metrics.jsonl').open('a') as file:
        file.write(json.dumps({'step': 10, 'kind': 'eval', 'ema_top1': 0.5}) + '\n')
    (directory / 'predictions.npz').touch()


def mistake():
    print('error: batch_size is 7, which does not divide', file=sys.stderr)
    sys.exit(2)


def fill_the_disk():
    with open('/dev/full', 'w') as file:
        file.write('x')


def ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (directory / 'waiting').touch()
    time.sleep(60)


{
    'finish': finish,
    'crash': lambda: sys.exit('Traceback: a bug'),
    'die': lambda: (save(4), os.kill(os.getpid(), signal.SIGKILL)),
    'mistake': mistake,
    'fill_the_disk': fill_the_disk,
    'damage': lambda: (directory / 'metrics.jsonl').write_text('{"step": 1\n{}\n'),
    'wait_for_sigterm': wait_for_sigterm,
    'ignore_sigterm': ignore_sigterm,
}[todo[0]]()
