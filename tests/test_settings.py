"""The list of settings that people read is the table that the program uses."""

import pathlib

import pytest

from resnet_rs.config import SETTINGS
from resnet_rs.settings import GROUPS, LISTED, group_of, markdown, select, text
from resnet_rs.utils.errors import UserError

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'configs.md'


def test_the_page_holds_every_setting_as_it_is():
    assert markdown(select([])) in PAGE.read_text(), (
        'docs/configs.md is old; replace its tables by: python -m resnet_rs.settings --markdown'
    )
    assert SETTINGS.keys() < LISTED.keys()
    assert {group_of(name) for name in LISTED} == set(GROUPS)


def test_one_setting_and_a_group():
    assert list(select(['data.resize'])) == ['data.resize']
    assert set(select(['ema', 'seed'])) == {'ema.decay', 'seed'}
    shown = text(select(['ema.decay']))
    assert shown.startswith('ema.decay = 0.9999\n') and 'takes a number' in shown


def test_a_wrong_name_is_refused():
    with pytest.raises(UserError, match="no setting 'data.rezise'; did you mean 'data.resize'"):
        select(['data.rezise'])
