"""Commands, run in this process."""


def run_command(main, capsys, *arguments):
    """Returns the status of main(arguments) and what it printed to stdout and to stderr."""
    status = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err
