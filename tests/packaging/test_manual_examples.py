"""The examples of the manual pages, run as a reader would, and the output that the pages quote."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest

from tests.packaging.documents import example_commands, literals, shape
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP
from tests.support.waiting import Trace, wait_for
from twitcher import cli
from twitcher.config.language import load_config
from twitcher.config.spec import RunMode
from twitcher.ctl import cli as ctl
from twitcher.znode import WatchType


def examples() -> List[str]:
    """The examples of the language; what runs only on some machines made to run on all."""
    return [text.replace("startswith('db')", "startswith('')") for text in literals('twitcher.twc.5', 'EXAMPLES')]


def example_with(words: str) -> str:
    """The only example of the language that has these words."""
    (text,) = [text for text in examples() if words in text]
    return text


def commands_with(page: str, *words: str) -> List[str]:
    """The commands among the examples of a page that have one of these words, without their prompts."""
    return [line[2:] for line in example_commands(page) if line[:2] in ('$ ', '# ') and any(word in line for word in words)]


def run(command: str, environment: Dict[str, str], directory: Path) -> str:
    """What a command prints."""
    return subprocess.run(command, shell=True, env=environment, cwd=directory, check=True, timeout=60, capture_output=True,
                          text=True).stdout


@pytest.mark.parametrize('text', examples())
def test_every_example_of_the_language_loads(text: str) -> None:
    assert load_config('/etc/twitcher/example.twc', text.encode())


def test_the_examples_have_every_run_mode_and_every_kind_of_action() -> None:
    specs = [spec for text in examples() for spec in load_config('/etc/twitcher/example.twc', text.encode())]
    assert {spec.run_mode for spec in specs} == set(RunMode)
    assert {spec.watch_type for spec in specs} == set(WatchType)
    assert {type(spec.action).__name__ for spec in specs} == {'Exec', 'FileFunction'}


def test_the_function_that_calls_another_does_what_its_example_says(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('limit.twc', example_with('apply_limit'))
    ensemble.put('/app/settings', 'limit=1')
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/app/settings', 'limit=20\n')
    twitcher.wait_log(r'limit.twc\[\d+\]: the limit is 20')
    twitcher.wait_log(r'limit.twc: pid \d+ exited 0')
    ensemble.put('/app/settings', 'limit=200\n')
    twitcher.wait_log(r'limit.twc: pid \d+ exited 1')
    assert len(twitcher.started('limit.twc')) == 2


def test_the_members_of_a_group_are_written_to_a_file(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('servers.twc', example_with('WATCH_CHILDREN').replace('/run/servers', str(trace)))
    twitcher.start()
    for name in ('b', 'a'):
        ensemble.client.create(f'/app/servers/{name}', makepath=True)
    wait_for('both names', lambda: trace.lines() == ['a', 'b'])


def test_a_log_file_has_the_lines_that_the_page_shows(twitcher: Twitcher, ensemble: Ensemble) -> None:
    (shown,) = literals('twitcher.8', 'LOG')
    twitcher.config('hello.twc', (TOP / 'etc' / 'examples' / 'hello.twc').read_text())
    ensemble.put('/examples/hello', '')
    twitcher.start()
    twitcher.wait_ended('hello.twc')
    ensemble.put('/examples/hello', 'world')
    for line in shown.splitlines():
        twitcher.wait_log(f'^{shape(line)}$')


def test_the_commands_of_the_pages_are_understood() -> None:
    parsers = {'twitcher': cli.new_parser(), 'twitcherctl': ctl.new_parser()}
    understood = []
    for page in ('twitcher.8', 'twitcherctl.8'):
        for line in example_commands(page):
            command = re.search(r'(?:^[$#] |^)(twitcher|twitcherctl) ([^<]*)', line)
            if command:
                parsers[command[1]].parse(shlex.split(command[2]))
                understood.append(line)
    assert len(understood) == 8


def test_a_daemon_is_started_reread_and_stopped_as_the_page_shows(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path,
                                                                  shell_environment: Dict[str, str]) -> None:
    pidfile = tmp_path / 'pid'

    def do(command: str) -> None:
        run(command.replace('/run/twitcher.pid', str(pidfile)), shell_environment, tmp_path)

    start, reread, stop = commands_with('twitcher.8', '/run/twitcher.pid')
    start = start.replace('zk1:2181,zk2:2181,zk3:2181', ensemble.hosts)
    do(f'{start} --config_path {twitcher.configs} --logfile {twitcher.log_path} --state_dir {tmp_path}/state')
    twitcher.wait_log('ZooKeeper: connected')
    do(reread)
    twitcher.wait_log('SIGHUP')
    do(stop)
    twitcher.wait_log('ended')
    wait_for('the pidfile to go', lambda: not pidfile.exists())


def test_the_pokes_of_the_pages_do_what_they_say(ensemble: Ensemble, tmp_path: Path, shell_environment: Dict[str, str]) -> None:
    def do(command: str) -> str:
        command = command.replace(' --zkservers zk1:2181', '')
        return run(command.replace('poke', f'poke --zkservers {ensemble.hosts}'), shell_environment, tmp_path)

    (tmp_path / 'settings').write_text('limit=30\n')
    pokes = commands_with('twitcherctl.8', '/app/settings')
    assert [do(command) for command in pokes] == ['0\n', '1\n', '2\n']
    assert ensemble.client.get('/app/settings')[0] == b'limit=30\n'
    (offset,) = commands_with('twitcherctl.8', '/app/offset')
    assert do(offset) == '0\n'
    assert ensemble.client.get('/app/offset')[0] == b'-1'
    (head,) = commands_with('twitcher.8', '/git/head')
    assert do(head) == '0\n'
    (of_hook,) = commands_with('twitcherctl.8', '/git/head')
    assert do(of_hook.replace('$commit', 'a0b1c2')) == ''
    assert ensemble.client.get('/git/head')[0] == b'a0b1c2'
