"""A string that is one simple command needs no shell beside it, and any string means what it means to /bin/sh."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import List, Tuple

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace
from twitcher.config.action import Exec

SIMPLE = [
    'cat', 'git pull', '  ls\t-l  /etc \n', '\nprintenv HOME\n', '/bin/echo a=b c,d e:f +g @h %i', 'SCRIPT 1 2',
    'git --work-tree=/srv pull', '/usr/bin/test 1 = 1', 'env A=b printenv A', 'no-such-program x', '/etc/passwd', 'sleep 0',
    'seq 3', '7z',
]
LEFT_TO_THE_SHELL = [
    ' ', 'A=b printenv A', 'cat; cat', 'cat && cat', 'cat | cat', 'ls *', 'ls ?', 'ls [a]', 'ls ~', 'echo $HOME',
    'ls "a b"', "ls 'a'", r'ls \x', 'ls `x`', 'cat < /dev/null', 'cat > /dev/null', 'cat & true', '(ls)', '{ ls; }',
    'ls {a,b}', '! ls', 'ls # comment', 'ls\nls', 'ls ^x', 'ls\r', 'ls\x0b', 'ls é', '-x', '+x', '%1', '@', '~/x',
    'cd /', 'exit 3', 'exit', ':', '. ./script', 'read x', 'set -- x', 'export A', 'exec ls', 'ulimit -n', 'umask 0',
    'wait', 'echo -n x', 'echo -e a', 'test -e /', '[ -e / ]', 'kill -l', 'printf a', 'true', 'false', 'eval ls',
    'trap', 'command ls', 'type ls', 'times', 'shift', 'return 3', 'break', 'continue', 'unset A', 'if', 'done',
    'while', 'alias', 'local', 'time ls', 'function', 'source x', 'hash', 'pwd', 'select', 'let x', 'source',
]


def outcome(argv: List[str], directory: Path) -> Tuple[int, bytes, bool]:
    """Exit code, stdout, and whether something was printed to stderr."""
    done = subprocess.run(argv, cwd=directory, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=30)
    return done.returncode, done.stdout, bool(done.stderr)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A directory with a script that has no #!."""
    script = tmp_path / 'script'
    script.write_text('echo "$0 has" "$@"\nexit 5\n')
    script.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize('command', SIMPLE)
def test_the_shell_is_replaced_by_a_simple_command(command: str, scripts: Path) -> None:
    command = command.replace('SCRIPT', str(scripts / 'script'))
    argv = list(Exec(command).argv)
    assert argv == ['/bin/sh', '-c', f'exec {command.strip()}']
    for shell in ('/bin/sh', '/bin/bash'):
        assert outcome([shell, *argv[1:]], scripts) == outcome([shell, '-c', command], scripts)


@pytest.mark.parametrize('command', LEFT_TO_THE_SHELL)
def test_what_the_shell_has_to_do_itself_is_left_to_it(command: str) -> None:
    assert Exec(command).argv == ('/bin/sh', '-c', command)


def test_no_builtin_of_a_shell_on_this_machine_is_taken_for_a_program() -> None:
    listed = subprocess.run(['bash', '-c', 'compgen -b; compgen -k'], capture_output=True, check=True, text=True).stdout
    builtins = listed.split()
    assert len(builtins) > 60
    assert [name for name in builtins if Exec(name).argv[2] != name] == []


def test_a_simple_command_is_executed_without_a_shell_that_waits_for_it(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, scripts: Path) -> None:
    commands = {'program': 'readlink /proc/self/exe', 'script': f'{scripts}/script a',
                'missing': 'no-such-program', 'asleep': 'sleep 1000'}
    twitcher.config('s.twc', ''.join(
        f"RegisterWatch('/s', Exec({command!r}), description={name!r})\n" for name, command in commands.items()))
    ensemble.put('/s', '')
    twitcher.start()
    assert twitcher.wait_ended('script') == ['exited 5']
    assert twitcher.wait_printed('script', 1) == [f'{scripts}/script has a']
    assert twitcher.wait_ended('missing') == ['exited 127']
    assert 'not found' in twitcher.wait_printed('missing', 1)[0]
    assert twitcher.wait_ended('program') == ['exited 0']
    [pid] = twitcher.wait_started('asleep')
    assert Path(f'/proc/{pid}/comm').read_text() == 'sleep\n'
    os.kill(pid, 15)
    assert twitcher.wait_ended('asleep') == ['was killed by SIGTERM']
