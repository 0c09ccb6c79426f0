"""What an action finds when it starts: descriptors, signals, session, directory, limits, and the contents on stdin."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Dict, List, Optional

import pytest

from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import process_status, signals_in
from tests.support.waiting import Trace, wait_for
from twitcher.runs.stdin import open_stdin

KINDS = ('command', 'list', 'function', 'function that calls Exec')
"""The ways to write an action; `every_kind` registers one of each, under these descriptions."""

_IGNORING_AND_BLOCKING = '''\
import os, signal, sys
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.argv[1], sys.argv[1:])
'''

DAEMONS: Dict[str, List[str]] = {
    'plainly': [],
    'in the background': [],
    'by nohup': ['nohup'],
    'with all signals ignored and blocked': [sys.executable, '-c', _IGNORING_AND_BLOCKING],
    'with open descriptors': ['sh', '-c', 'exec 3</etc/passwd 4>/dev/null 9<>/dev/null; exec "$@"', 'sh'],
    'without stdin, stdout and stderr': ['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh'],
    'with umask 077 elsewhere': ['sh', '-c', 'umask 077; cd /usr; exec "$@"', 'sh'],
}
"""Ways to start the daemon, as wrappers of its command line."""


def every_kind(trace: Trace) -> str:
    """A config with an action of each kind on /k; each writes its description to the trace and goes on for ever."""
    return f'''
import os, time
def tell():
    with open('{trace}', 'a') as file:
        file.write(os.environ['TWITCHER_DESCRIPTION'] + '\\n')
def function():
    tell()
    time.sleep(1000)
replacement = Exec(['sleep', '1000'])
def replaced():
    tell()
    replacement()
shell = 'echo $TWITCHER_DESCRIPTION >> {trace}; '
RegisterWatch('/k', Exec(shell + 'sleep 1000; true'), description='command')
RegisterWatch('/k', Exec(['sh', '-c', shell + 'exec sleep 1000']), description='list')
RegisterWatch('/k', function, description='function')
RegisterWatch('/k', replaced, description='function that calls Exec')
'''


def running_kinds(twitcher: Twitcher, trace: Trace) -> Dict[str, int]:
    """The pids of the actions of `every_kind`, when all have told that they run."""
    for kind in KINDS:
        trace.wait_for_line(kind)
        twitcher.wait_log(f': {kind}: pid .* started')
    return {kind: twitcher.started(kind)[0] for kind in KINDS}


@pytest.mark.parametrize('way', DAEMONS)
def test_an_action_finds_a_clean_process_also_when_the_daemon_was_started(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, way: str) -> None:
    twitcher.config('k.twc', every_kind(trace))
    ensemble.put('/k', 'contents')
    start = twitcher.detach if way == 'in the background' else twitcher.start
    start(wrapper=DAEMONS[way])
    for kind, pid in running_kinds(twitcher, trace).items():
        clean: Dict[str, object] = {
            'descriptors': ['0', '1', '2'], 'cwd': '/', 'blocked': [], 'ignored': [], 'umask': '0022',
            'process group, session, terminal': [str(pid), str(pid), '0']}
        # The shell may still have the file open in which it has told us that it runs, or be about to become its command.
        try:
            wait_for(f'a clean {kind}', partial(_is, clean, pid))
        except AssertionError:
            assert _found(pid) == clean, kind


def _is(expected: Dict[str, object], pid: int) -> bool:
    return _found(pid) == expected


def _found(pid: int) -> Dict[str, object]:
    """What a process has been given."""
    status = process_status(pid)
    return {
        'descriptors': sorted(os.listdir(f'/proc/{pid}/fd'), key=int), 'cwd': os.readlink(f'/proc/{pid}/cwd'),
        'blocked': signals_in(status['SigBlk']), 'ignored': signals_in(status['SigIgn']), 'umask': status['Umask'],
        'process group, session, terminal': Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[2:5]}


def test_the_commands_that_an_action_starts_find_no_blocked_or_ignored_signal_either(
        twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('k.twc', '''
        import subprocess
        command = "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\\\t'"
        RegisterWatch('/k', Exec(command), description='command')
        RegisterWatch('/k', lambda: subprocess.call(command, shell=True), description='function')
    ''')
    ensemble.put('/k', '')
    twitcher.start(wrapper=DAEMONS['with all signals ignored and blocked'])
    for description in ('command', 'function'):
        masks = [line.split(':') for line in twitcher.wait_printed(description, 2)]
        assert [(name, signals_in(mask)) for name, mask in masks] == [('SigBlk', []), ('SigIgn', [])]


def test_contents_are_in_no_environment_and_no_command_line(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('k.twc', every_kind(trace))
    ensemble.put('/k', 'a secret')
    twitcher.start()
    for kind, pid in running_kinds(twitcher, trace).items():
        for name in ('environ', 'cmdline'):
            # It is empty for a moment while a process executes another program.
            text = wait_for(f'{name} of {kind}', Path(f'/proc/{pid}/{name}').read_bytes)
            assert b'a secret' not in text, kind


@pytest.mark.parametrize('detached', [False, True], ids=['in the foreground', 'daemonized'])
def test_an_action_has_the_resource_limits_that_the_daemon_was_started_with(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, detached: bool) -> None:
    twitcher.config('k.twc', every_kind(trace))
    ensemble.put('/k', '')
    start = twitcher.detach if detached else twitcher.start
    start(wrapper=['sh', '-c', 'ulimit -S -s 4096 && ulimit -S -n 900 && exec "$@"', 'sh'])
    own = {line[:26].rstrip(): line[26:].split()[:2] for line in Path('/proc/self/limits').read_text().splitlines()}
    own['Max stack size'][0] = str(4096 * 1024)
    own['Max open files'][0] = '900'
    for kind, pid in running_kinds(twitcher, trace).items():
        lines = Path(f'/proc/{pid}/limits').read_text().splitlines()
        assert {line[:26].rstrip(): line[26:].split()[:2] for line in lines} == own, kind


def test_actions_do_not_ignore_what_the_daemon_does(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('u.twc', "RegisterWatch('/u', Exec('kill -USR1 $$'))")
    ensemble.put('/u', '')
    twitcher.start()
    assert twitcher.wait_ended('u.twc') == ['was killed by SIGUSR1']


@pytest.mark.parametrize('given', [{}, {'LC_CTYPE': 'C.UTF-8'}], ids=['nothing', 'LC_CTYPE'])
def test_actions_get_no_locale_that_nobody_has_set(twitcher: Twitcher, ensemble: Ensemble, given: dict[str, str]) -> None:
    twitcher.config('l.twc', "RegisterWatch('/l', Exec('env | grep ^L[AC]; echo end'))")
    ensemble.put('/l', '')
    words = [f'{name}={value}' for name, value in given.items()]
    twitcher.start(wrapper=['env', '-u', 'LANG', '-u', 'LC_ALL', '-u', 'LC_CTYPE', *words])
    lines = [f'{name}={value}' for name, value in given.items()] + ['end']
    assert twitcher.wait_printed('l.twc', len(lines)) == lines


# stdin

CONTENTS: Dict[str, Optional[bytes]] = {
    'empty': b'', 'none': None, 'one newline': b'\n', 'no newline at the end': b'a\nb', 'every byte': bytes(range(256)),
    'zeros': bytes(5000), 'a pipe full': os.urandom(65536), 'a byte more': os.urandom(65537), 'a million': os.urandom(1000000),
}


def test_stdin_is_the_contents_byte_for_byte_and_then_the_end(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    twitcher.config('s.twc', f'''
        import os, shutil, sys
        def copy():
            name = '{tmp_path}/function.' + os.environ['TWITCHER_VERSION']
            with open(name + '.new', 'wb') as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            os.rename(name + '.new', name)
        name = '{tmp_path}/command.$TWITCHER_VERSION'
        RegisterWatch('/s', Exec(f'cat > {{name}}.new; mv {{name}}.new {{name}}'), run_mode=PARALLEL)
        RegisterWatch('/s', copy, run_mode=PARALLEL)
    ''')
    ensemble.put('/s', 'first')
    twitcher.start()
    for version, contents in enumerate([b'first', *CONTENTS.values()]):
        if version:
            ensemble.client.set('/s', contents)
        for kind in ('command', 'function'):
            copy = tmp_path / f'{kind}.{version}'
            wait_for(str(copy), copy.exists)
            assert copy.read_bytes() == (contents or b'')


@pytest.mark.parametrize('size', [1 << 20, (1 << 20) + 1, 5000000])
def test_contents_beyond_what_a_pipe_may_hold_are_read_whole_too(size: int) -> None:
    contents = os.urandom(size)
    descriptor = open_stdin(contents)
    with open(descriptor, 'rb') as file:
        assert file.read() == contents


def test_a_million_bytes_wait_for_a_reader_that_is_late(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    go, copy = tmp_path / 'go', tmp_path / 'copy'
    twitcher.config('late.twc', f"RegisterWatch('/late', Exec('{until(go)}; "
                                f"cat > {copy}.new; mv {copy}.new {copy}'))")
    contents = os.urandom(1000000)
    ensemble.put('/late', contents)
    twitcher.start()
    twitcher.wait_log('late.twc: pid .* started')
    twitcher.fence(ensemble)
    go.touch()
    wait_for('the copy', copy.exists)
    assert copy.read_bytes() == contents


def test_an_action_that_closes_or_never_reads_its_stdin_holds_up_nobody(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('deaf.twc', '''
        import os, time
        def closes():
            os.close(0)
            time.sleep(1000)
        for action in (Exec('exec <&-; exec sleep 1000'), Exec(['sleep', '1000']), closes):
            RegisterWatch('/deaf', action, run_mode=PARALLEL)
        RegisterWatch('/deaf', Exec('head -c 1 > /dev/null'), run_mode=PARALLEL, description='one byte')
        RegisterWatch('/deaf', Exec('true'), run_mode=PARALLEL, description='none')
    ''')
    ensemble.put('/deaf', bytes(1000000))
    twitcher.start()
    twitcher.wait_log(r'pid \d+ started', count=5)
    ensemble.put('/deaf', bytes(1000000))
    for description in ('one byte', 'none'):
        assert twitcher.wait_ended(description, 2) == ['exited 0', 'exited 0']
    for number in (1, 2, 3):
        twitcher.wait_log(rf'deaf.twc#{number}: pid .* started', count=2)
    twitcher.fence(ensemble)
    assert [twitcher.ended(f'deaf.twc#{number}') for number in (1, 2, 3)] == [[], [], []]


def test_without_pipe_stdin_the_stdin_is_empty(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('n.twc', '''
        import sys
        RegisterWatch('/n', Exec('wc -c'), pipe_stdin=False, description='command')
        RegisterWatch('/n', lambda: print(len(sys.stdin.read())), False, description='function')
        RegisterWatch('/n', Exec('wc -c < /dev/stdin'), pipe_stdin=False, uid='nobody', description='reopened')
    ''')
    ensemble.put('/n', 'contents')
    twitcher.start()
    for description in ('command', 'function', 'reopened'):
        assert twitcher.wait_printed(description, 1) == ['0']


@pytest.mark.parametrize('size', [0, 5, 1000000])
def test_an_action_may_open_its_own_stdin_stdout_and_stderr_by_name_whoever_it_runs_as(
        twitcher: Twitcher, ensemble: Ensemble, size: int) -> None:
    twitcher.config('dev.twc', '''
        def reopen():
            with open('/dev/stdin', 'rb') as stdin, open('/dev/stdout', 'w') as stdout, open('/dev/stderr', 'w') as stderr:
                print(len(stdin.read()), file=stdout, flush=True)
                print('end', file=stderr)
        command = 'wc -c < /dev/stdin > /dev/stdout; echo end > /dev/stderr'
        for name, who in {'root': {}, 'nobody': {'uid': 'nobody'}, 'nogroup': {'gid': 'nogroup'}}.items():
            RegisterWatch('/dev', Exec(command), description=f'command {name}', **who)
            RegisterWatch('/dev', reopen, description=f'function {name}', **who)
    ''')
    ensemble.put('/dev', bytes(size))
    twitcher.start()
    for name in ('root', 'nobody', 'nogroup'):
        for kind in ('command', 'function'):
            assert twitcher.wait_printed(f'{kind} {name}', 2) == [str(size), 'end']
