"""The manual pages against the programs: their options, arguments, defaults and variables are those of the code."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from typing import Dict, Iterator, List, Set, Tuple

import pytest

from tests.packaging import state_table
from tests.packaging.argument_table import END, START, shown, table
from tests.packaging.documents import DOCUMENTS, PAGES, as_text, literals, mandoc, section, terms
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP, call
from twitcher import __version__, cli
from twitcher.config.arguments import LANGUAGE, RETRY, make_spec
from twitcher.config.language import load_config
from twitcher.ctl import cli as ctl
from twitcher.errors import ConfigError
from twitcher.options import DEFAULT_SERVERS

Options = Dict[Tuple[str, ...], str]
"""The name of each option's argument, or nothing, by how the option is spelled."""


def spellings(text: str) -> Tuple[Tuple[str, ...], str]:
    """`-v, --verbose` or `--wait SECONDS` taken apart."""
    words = re.split(r',? (?=-)', text)
    last, _, argument = words[-1].partition(' ')
    return (*words[:-1], last), argument


def told(tags: Iterator[str]) -> Options:
    """The options among some tags."""
    return dict(spellings(tag) for tag in tags if tag.startswith('-'))


def actions(parser: argparse.ArgumentParser) -> List[argparse.Action]:
    """All that a parser understands, and its commands' parsers."""
    own = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                own += [action for action in actions(command) if action.dest != 'help']
    return own


def real(parser: argparse.ArgumentParser) -> Options:
    """The options that a parser understands."""
    return {tuple(action.option_strings): str(action.metavar or '') for action in actions(parser) if action.option_strings}


PARSERS = [('twitcher.8', cli.new_parser()), ('twitcherctl.8', ctl.new_parser())]


@pytest.mark.parametrize('page', PAGES)
def test_mandoc_finds_nothing_to_complain_about(page: str) -> None:
    assert mandoc(page, '-T', 'lint', '-W', 'warning') == ''


def test_the_pages_are_of_this_release() -> None:
    sources = {page: (TOP / 'man' / page).read_text() for page in PAGES}
    assert sorted(path.name for path in (TOP / 'man').iterdir()) == sorted(sources)
    assert {re.findall(r'^\.Os (.*)$', text, re.MULTILINE)[0] for text in sources.values()} == {f'Twitcher {__version__}'}
    assert len({re.findall(r'^\.Dd (.*)$', text, re.MULTILINE)[0] for text in sources.values()}) == 1


@pytest.mark.parametrize(('page', 'parser'), PARSERS)
def test_a_page_lists_the_options_of_its_program(page: str, parser: argparse.ArgumentParser) -> None:
    assert told(iter(terms(page))) == {tuple(sorted(names, key=len)): argument for names, argument in real(parser).items()}


@pytest.mark.parametrize(('page', 'parser'), PARSERS)
def test_a_synopsis_has_every_option_with_its_argument(page: str, parser: argparse.ArgumentParser) -> None:
    words = as_text(section(page, 'SYNOPSIS')).replace('[/CHROOT]', '/CHROOT').translate(str.maketrans('[]|', '   ')).split()
    assert {word for word in words if word.startswith('-')} <= {name for names in real(parser) for name in names}
    for names, argument in real(parser).items():
        (word,) = set(names) & set(words)
        following = words[words.index(word) + 1] if words.index(word) + 1 < len(words) else ''
        assert argument.replace('[/CHROOT]', '/CHROOT') in (following, '')
    for action in actions(parser):
        assert action.option_strings or action.metavar in words


@pytest.mark.parametrize(('page', 'parser'), PARSERS)
def test_a_page_tells_every_default(page: str, parser: argparse.ArgumentParser) -> None:
    texts = {spellings(tag)[0][-1]: text for tag, text in terms(page).items()}
    defaults = {action.option_strings[-1]: action.default for action in actions(parser) if action.option_strings}
    if page == 'twitcher.8':
        defaults['--zkservers'] = DEFAULT_SERVERS
    for name, default in defaults.items():
        if default not in (None, False, argparse.SUPPRESS):
            value = f'{default:g}' if isinstance(default, float) else str(default)
            assert re.search(rf'default is .?{re.escape(value)}\b', texts[name]), name


@pytest.mark.parametrize('program', ['twitcher', 'twitcherctl'])
def test_help_shows_what_the_page_does(program: str) -> None:
    told_here = {name for names in told(iter(terms(f'{program}.8'))) for name in names}
    shown: Set[str] = set()
    for command in ([], ['poke']) if program == 'twitcherctl' else ([],):
        text = call(program, *command, '--help', environment={'COLUMNS': '200'}).stdout.decode()
        listed = re.split('^(?:options|optional arguments):$', text, flags=re.MULTILINE)[1]  # as Python 3.9 calls them
        shown.update(re.findall(r'(?<![\w-])--?[a-z][a-z_]*', listed))
    assert shown == told_here


def test_the_table_of_the_arguments_is_what_the_code_prints() -> None:
    text = (TOP / 'man/twitcher.twc.5').read_text()
    assert text.partition(f'{START}\n')[2].partition(f'\n{END}')[0] == table()


def test_the_table_of_the_states_is_what_the_code_prints() -> None:
    text = (TOP / 'man/twitcher.twc.5').read_text()
    assert text.partition(f'{state_table.START}\n')[2].partition(f'\n{state_table.END}')[0] == state_table.table()


def signature(text: str) -> List[Tuple[str, str]]:
    """The arguments and defaults of RegisterWatch where a text has `RegisterWatch(znode, ...)`."""
    (arguments,) = re.findall(r'RegisterWatch(\(znode, action.*?\))$', text, re.MULTILINE | re.DOTALL)
    (function,) = ast.parse(f'def RegisterWatch{arguments}: pass').body
    assert isinstance(function, ast.FunctionDef)
    names = [argument.arg for argument in function.args.args]
    defaults = [ast.unparse(default) for default in function.args.defaults]
    return list(zip(names, [''] * (len(names) - len(defaults)) + defaults))


def real_signature() -> List[Tuple[str, str]]:
    """The arguments and defaults of RegisterWatch."""
    return [(name, shown(parameter.default)) for name, parameter in inspect.signature(make_spec).parameters.items()]


def test_the_arguments_of_register_watch_and_their_defaults_are_the_real_ones() -> None:
    assert signature(literals('twitcher.twc.5', 'SYNOPSIS')[0]) == real_signature()


def test_the_arguments_of_retry_and_their_defaults_are_the_real_ones() -> None:
    real = [(name, shown(parameter.default)) for name, parameter in inspect.signature(RETRY).parameters.items()]
    arguments = literals('twitcher.twc.5', 'SYNOPSIS')[0].partition('RETRY(')[2].partition(')')[0]
    assert re.findall(r'(\w+)=([^,]+)', arguments) == real


def test_the_page_explains_every_argument_and_no_other() -> None:
    explained = {name for tag in terms('twitcher.twc.5') for name in tag.split(', ') if name.islower()}
    assert explained == {name for name, _ in real_signature()}


def test_the_page_names_all_that_the_language_adds() -> None:
    named = ' '.join(as_text(section('twitcher.twc.5', 'DESCRIPTION')).split()).partition('with these names added:')[2]
    listed = re.findall(r'\w+', named.partition('. ')[0])
    assert set(listed) - {'and'} == {'RegisterWatch', 'Exec', *dict(LANGUAGE)}


def test_five_arguments_may_be_given_by_position_as_the_texts_say() -> None:
    kinds = [parameter.kind for parameter in inspect.signature(make_spec).parameters.values()]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == 5
    assert kinds[5:] == [inspect.Parameter.KEYWORD_ONLY] * len(kinds[5:])
    assert 'first five arguments' in as_text(section('twitcher.twc.5', 'DESCRIPTION'))
    assert 'first five arguments' in DOCUMENTS['doc/UPGRADING-from-1.7.md']


def test_the_variables_are_those_that_an_action_finds(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('a.twc', "RegisterWatch('/a', Exec('env | sed -n s/^TWITCHER_//p; echo end'))")
    ensemble.put('/a', '')
    twitcher.start()
    twitcher.wait_printed('a.twc', 7)
    found = {f'TWITCHER_{line.partition("=")[0]}' for line in twitcher.printed('a.twc')} - {'TWITCHER_end'}
    assert found == {tag for tag in terms('twitcher.twc.5') if tag.startswith('TWITCHER_')}


def test_a_mistake_is_told_as_the_page_shows() -> None:
    (shown,) = literals('twitcher.twc.5', 'DIAGNOSTICS')
    path, _, call_made = shown.strip().partition(':1: ')
    with pytest.raises(ConfigError) as caught:
        load_config(path, f'RegisterWatch({call_made.partition(": ")[0]})'.encode())
    pattern = re.escape(shown.strip()).replace(re.escape('[...]'), '.*')
    assert re.fullmatch(pattern, f'{caught.value}; not loaded')


def test_the_error_lines_of_the_log_end_as_the_page_says(twitcher: Twitcher) -> None:
    quoted = re.findall(r'<code class="Li">(.*?)</code>', section('twitcher.twc.5', 'DIAGNOSTICS'), re.DOTALL)
    first, later, helper = (' '.join(as_text(text).split()) for text in quoted)
    twitcher.config('bad.twc', 'RegisterWatch()')
    twitcher.config('good.twc', "RegisterWatch('/a', Exec('true'))")
    twitcher.config('helper.py', '\n\n1 / 0\n')
    twitcher.start()
    twitcher.wait_log(f'bad.twc:1: .*; {first}$')
    twitcher.config('good.twc', 'import helper')
    directory = re.escape(str(twitcher.configs))
    twitcher.wait_log(f'good.twc:1: .*{re.escape(helper).replace("/etc/twitcher", directory)}.*; {later}$')
