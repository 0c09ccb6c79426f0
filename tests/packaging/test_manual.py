"""The manual pages, the README and the completion against the program: what they name is what there is."""

from __future__ import annotations

import argparse
import ast
import html
import inspect
import re
import shlex
import subprocess
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP, call
from twitcher import __version__, cli
from twitcher.config.language import load_config
from twitcher.config.spec import RunMode, WatchType, make_spec
from twitcher.ctl import cli as ctl
from twitcher.errors import ConfigError
from twitcher.options import DEFAULT_HOSTS

PAGES = ['twitcher.8', 'twitcher.twc.5', 'twitcherctl.8']
README = (TOP / 'README').read_text()

Options = Dict[Tuple[str, ...], str]
"""The name of each option's argument, or nothing, by how the option is spelled."""


def mandoc(page: str, *options: str) -> str:
    """What mandoc(1) makes of a page."""
    return subprocess.run(['mandoc', *options, str(TOP / 'man' / page)], capture_output=True, text=True, check=False,
                          timeout=60).stdout


def as_text(markup: str) -> str:
    """What a reader sees of a piece of HTML."""
    return html.unescape(re.sub('<[^>]*>', '', markup))


def section(page: str, title: str) -> str:
    """The HTML of a page's section."""
    (found,) = re.findall(rf'<section class="Sh">\s*<h1 class="Sh" id="{title}">(.*?)</section>', mandoc(page, '-T', 'html'),
                          re.DOTALL)
    return str(found)


def terms(page: str) -> Dict[str, str]:
    """The text of each item of the tagged lists of a page, by its tag."""
    items = re.findall(r'<dt[^>]*>(.*?)</dt>\s*<dd[^>]*>(.*?)(?=</dd>)', mandoc(page, '-T', 'html'), re.DOTALL)
    return {' '.join(as_text(tag).split()): ' '.join(as_text(text).split()) for tag, text in items}


def literals(page: str, title: str) -> List[str]:
    """The literal displays in a section, as they can be copied."""
    return [as_text(text) for text in re.findall(r'<pre[^>]*>(.*?)</pre>', section(page, title), re.DOTALL)]


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
        defaults['--zkservers'] = DEFAULT_HOSTS
    for name, default in defaults.items():
        if default not in (None, False, argparse.SUPPRESS):
            value = f'{default:g}' if isinstance(default, float) else str(default)
            assert re.search(rf'default is .?{re.escape(value)}\b', texts[name]), name


def test_the_readme_lists_the_options_of_twitcher() -> None:
    rows = re.findall(r'^\| (-\S.*?) \| ', README, re.MULTILINE)
    assert told(iter(rows)) == {tuple(sorted(names, key=len)): argument for names, argument in real(cli.new_parser()).items()}


def test_the_readme_and_the_page_name_every_option_of_twitcherctl() -> None:
    (chapter,) = re.findall(r'^### twitcherctl\n(.*?)^##', README, re.MULTILINE | re.DOTALL)
    for action in actions(ctl.new_parser()):
        assert action.dest in ('help', 'version', 'znode', 'data') or action.option_strings[0] in chapter


@pytest.mark.parametrize('program', ['twitcher', 'twitcherctl'])
def test_help_shows_what_the_page_does(program: str) -> None:
    told_here = {name for names in told(iter(terms(f'{program}.8'))) for name in names}
    shown: Set[str] = set()
    for command in ([], ['poke']) if program == 'twitcherctl' else ([],):
        text = call(program, *command, '--help', environment={'COLUMNS': '200'}).stdout.decode()
        listed = re.split('^(?:options|optional arguments):$', text, flags=re.MULTILINE)[1]  # as Python 3.9 calls them
        shown.update(re.findall(r'(?<![\w-])--?[a-z][a-z_]*', listed))
    assert shown == told_here


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
    def shown(default: Any) -> str:
        if default is inspect.Parameter.empty:
            return ''
        if isinstance(default, WatchType):
            return default.value
        return default.name if isinstance(default, RunMode) else repr(default)

    return [(name, shown(parameter.default)) for name, parameter in inspect.signature(make_spec).parameters.items()]


def test_the_arguments_of_register_watch_and_their_defaults_are_the_real_ones() -> None:
    assert signature(literals('twitcher.twc.5', 'SYNOPSIS')[0]) == real_signature() == signature(README)


def test_the_pages_and_the_readme_explain_every_argument_and_no_other() -> None:
    arguments = {name for name, _ in real_signature()}
    of_page = {name for tag in terms('twitcher.twc.5') for name in tag.split(', ') if name.islower()}
    (table,) = re.findall(r'^\| argument \| meaning \|\n(.*?)\n\n', README, re.MULTILINE | re.DOTALL)
    of_readme = {name for tag in re.findall(r'^\| (\w.*?) \|', table, re.MULTILINE) for name in tag.split(', ')}
    assert of_page == of_readme == arguments


def test_five_arguments_may_be_given_by_position_as_the_texts_say() -> None:
    kinds = [parameter.kind for parameter in inspect.signature(make_spec).parameters.values()]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == 5
    assert kinds[5:] == [inspect.Parameter.KEYWORD_ONLY] * len(kinds[5:])
    assert 'first five arguments' in as_text(section('twitcher.twc.5', 'DESCRIPTION'))
    assert 'first five arguments' in README


def test_the_variables_are_those_that_an_action_finds(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('a.twc', "RegisterWatch('/a', Exec('env | sed -n s/^TWITCHER_//p; echo end'))")
    ensemble.put('/a', '')
    twitcher.start()
    twitcher.wait_printed('a.twc', 6)
    found = {f'TWITCHER_{line.partition("=")[0]}' for line in twitcher.printed('a.twc')} - {'TWITCHER_end'}
    assert found == {tag for tag in terms('twitcher.twc.5') if tag.startswith('TWITCHER_')}
    assert found == set(re.findall(r'^ *\| (TWITCHER_\w+) \|', README, re.MULTILINE))


def examples() -> List[str]:
    """The examples of the language; what runs only on some machines made to run on all."""
    return [text.replace("startswith('db')", "startswith('')") for text in literals('twitcher.twc.5', 'EXAMPLES')]


@pytest.mark.parametrize('text', examples())
def test_every_example_of_the_language_loads(text: str) -> None:
    assert load_config('/etc/twitcher/example.twc', text.encode())


def test_the_examples_have_every_run_mode_and_every_kind_of_action() -> None:
    specs = [spec for text in examples() for spec in load_config('/etc/twitcher/example.twc', text.encode())]
    assert {spec.run_mode for spec in specs} == set(RunMode)
    assert {spec.watch_type for spec in specs} == set(WatchType)
    assert {type(spec.action).__name__ for spec in specs} == {'Exec', 'FileFunction'}


def test_a_mistake_is_told_as_the_page_shows() -> None:
    (shown,) = literals('twitcher.twc.5', 'DIAGNOSTICS')
    path, _, call_made = shown.strip().partition(':1: ')
    with pytest.raises(ConfigError) as caught:
        load_config(path, f'RegisterWatch({call_made.partition(": ")[0]})'.encode())
    pattern = re.escape(shown.strip()).replace(re.escape('[...]'), '.*')
    assert re.fullmatch(pattern, f'{caught.value}; not loaded')


def test_the_commands_of_the_pages_are_understood() -> None:
    parsers = {'twitcher': cli.new_parser(), 'twitcherctl': ctl.new_parser()}
    understood = []
    for page in ('twitcher.8', 'twitcherctl.8'):
        markup = section(page, 'EXAMPLES')
        single = [' '.join(as_text(text).split()) for text in re.findall(r'<code class="Li">(.*?)</code>', markup, re.DOTALL)]
        for line in [*single, *(line for text in literals(page, 'EXAMPLES') for line in text.splitlines())]:
            command = re.search(r'(?:^[$#] |^)(twitcher|twitcherctl) ([^<]*)', line)
            if command:
                parsers[command[1]].parse(shlex.split(command[2]))
                understood.append(line)
    assert len(understood) == 7
