"""Barriers name missing processes, and processes end together; host_scenarios.py has their code."""

from helpers.processes import error_lines, run_scenario


def test_processes_wait_by_name_and_a_killed_one_ends_the_others():
    *survivors, killed = run_scenario(3, 'barriers_then_kill_2')
    assert killed[0] == -9
    for index, (status, output, errors) in enumerate(survivors):
        squares, again, disks, lunch = output.splitlines()
        assert squares == "['0', '1', '4']" and again == "['0', '1', '2']"
        assert disks == 'UserError: disk full on 1'
        assert lunch.startswith(f'UserError: process {index} of 3 (')
        assert "waited 1.5 s at 'lunch' for process 2 of 3 (" in lunch
        (line,) = error_lines(errors)
        assert 'process 2 of 3 (' in line and 'stopped answering' in line
        assert 'the same command resumes' in line
        assert status == 75 and 'Traceback' not in errors


def test_a_process_killed_in_a_collective_is_named_not_the_collective():
    survivor, killed = run_scenario(2, 'kill_1_in_a_collective')
    assert killed[0] == -9 and survivor[0] == 75
    (line,) = error_lines(survivor[2])
    assert 'process 1 of 2' in line and 'stopped answering' in line


def test_process_0_killed_ends_the_others():
    killed, survivor = run_scenario(2, 'kill_0')
    assert killed[0] == -9
    assert survivor[0] in (75, -6)  # whichever is first: ours, or the abort of jax's own watch
    if survivor[0] == 75:
        assert 'process 0 of 2 at localhost' in error_lines(survivor[2])[0]
    else:
        assert 'coordination service' in survivor[2]


def test_processes_that_end_well_say_nothing():
    for status, _, errors in run_scenario(2, 'end_well'):
        assert status == 0, errors
        assert not error_lines(errors)


def test_a_mistake_in_one_process_is_told_to_all():
    (status_0, _, errors_0), (status_1, _, errors_1) = run_scenario(2, 'mistake_on_1')
    assert status_0 == status_1 == 2
    assert error_lines(errors_1) == ['error: image 17 cannot be decoded']
    (line,) = error_lines(errors_0)
    assert 'process 1 of 2 (' in line and 'UserError: image 17 cannot be decoded' in line


def test_a_bug_in_one_process_keeps_its_traceback_and_ends_all():
    (status_0, _, errors_0), (status_1, _, errors_1) = run_scenario(2, 'bug_on_0')
    assert status_0 == status_1 == 1
    assert 'Traceback' in errors_0 and 'ZeroDivisionError: a bug' in errors_0
    (line,) = error_lines(errors_1)
    assert 'process 0 of 2 (' in line and 'ZeroDivisionError: a bug' in line


def test_ctrl_c_on_one_process_stops_all_after_the_same_step():
    ended = run_scenario(2, 'ctrl_c_on_1')
    assert [(status, output.split()) for status, output, _ in ended] == [
        (0, ['1', 'True', '75']),
        (0, ['1', 'True', '130']),
    ], ended
