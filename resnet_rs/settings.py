"""Prints the settings of a run: default, allowed values, meaning, and when a value may change.

    python -m resnet_rs.settings [NAME ...]

NAME is a setting (data.resize) or a group (data); without NAME the command prints all settings.
--markdown prints the tables of docs/configs.md.
"""

import textwrap

from resnet_rs.config import EVALUATION_SETTINGS, SETTINGS, Setting
from resnet_rs.utils.errors import CommandParser, UserError, one_line_errors

LISTED = SETTINGS | {f'evals.NAME.{key}': setting for key, setting in EVALUATION_SETTINGS.items()}
GROUPS = tuple(dict.fromkeys(name.rpartition('.')[0] for name in LISTED))


def main() -> None:
    """Runs the command."""
    parser = CommandParser(prog='python -m resnet_rs.settings', description=__doc__)
    parser.add_argument('names', nargs='*', metavar='NAME', help='a setting or a group')
    parser.add_argument('--markdown', action='store_true', help='as the tables of docs/configs.md')
    options = parser.parse_args()
    with one_line_errors(UserError):
        found = select(options.names)
        print(markdown(found) if options.markdown else text(found))


def select(names: list[str]) -> dict[str, Setting]:
    """Returns the settings of these names and groups, or all; raises UserError for other names."""
    from resnet_rs.config.validation import check_key

    for name in names:
        if name not in GROUPS:
            check_key(name)
    return {
        name: setting
        for name, setting in LISTED.items()
        if not names or name in names or group_of(name) in names
    }


def group_of(name: str) -> str:
    """Returns the group of a setting: 'data' for 'data.name', '' for 'seed'."""
    return name.rpartition('.')[0]


def text(settings: dict[str, Setting]) -> str:
    """Returns a paragraph of text for each setting."""
    paragraphs = []
    for name, setting in settings.items():
        lines = [f'{name} = {setting.default!r}']
        for part in (setting.meaning, f'takes {setting.rule.takes}', setting.change.value):
            lines += textwrap.wrap(part, 76, initial_indent='    ', subsequent_indent='      ')
        paragraphs.append('\n'.join(lines))
    return '\n'.join(paragraphs)


def markdown(settings: dict[str, Setting]) -> str:
    """Returns a table in Markdown for each group of settings."""
    blocks = []
    for group in GROUPS:
        members = {name: each for name, each in settings.items() if group_of(name) == group}
        if not members:
            continue
        rows = [
            f'| `{name}` | `{setting.default!r}` | {_cell(setting.rule.takes)} | '
            f'{_cell(setting.meaning)} | {_cell(setting.change.value)} |'
            for name, setting in members.items()
        ]
        blocks.append(
            '\n'.join(
                [
                    f'### {group or "Without a group"}',
                    '',
                    '| setting | default | takes | meaning | another value is |',
                    '|---|---|---|---|---|',
                    *rows,
                ]
            )
        )
    return '\n\n'.join(blocks)


def _cell(words: str) -> str:
    return words.replace('|', '\\|')


if __name__ == '__main__':
    main()
