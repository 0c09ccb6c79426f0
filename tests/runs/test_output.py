"""What actions print, on its way to the log: whole, attributed, and without harm to anybody."""

from __future__ import annotations

import os
import random
import signal
import string
from pathlib import Path
from typing import List

import pytest

from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive, process_status
from tests.support.waiting import Trace, wait_for
from twitcher.runs.output_process import MAX_LINE


def output_process(twitcher: Twitcher) -> int:
    """The pid of the process that reads what the daemon's actions print, as soon as there is one."""
    def find() -> int:
        children = Path(f'/proc/{twitcher.pid}/task/{twitcher.pid}/children').read_text().split()
        for pid in children:
            if is_alive(int(pid)) and Path(f'/proc/{pid}/comm').read_text() == 'twitcher-output\n':
                return int(pid)
        return 0

    return wait_for('the process that reads the output', find)


def run_once(twitcher: Twitcher, ensemble: Ensemble, action: str, count: int, contents: str = '') -> List[str]:
    """Run the action to its end and return what it has printed, at least so many lines."""
    twitcher.config('o.twc', f"import os, sys, time\nRegisterWatch('/o', {action}, description='it')\n")
    ensemble.put('/o', contents)
    twitcher.start()
    twitcher.wait_ended('it')
    twitcher.wait_printed('it', count)
    twitcher.fence(ensemble)
    return twitcher.printed('it')


def test_each_line_is_logged_with_description_and_pid(twitcher: Twitcher, ensemble: Ensemble) -> None:
    assert run_once(twitcher, ensemble, "Exec('echo out; echo err >&2; echo; echo \"  two  words \"')", 4) == [
        'out', 'err', '', '  two  words ']
    [pid] = twitcher.wait_started('it')
    assert len(twitcher.log_lines(rf' twitcher\[{twitcher.pid}\] INFO: it\[{pid}\]: ')) == 4


@pytest.mark.parametrize('printed, logged', [
    ('no newline', ['no newline']),
    ('one\\n\\ntwo', ['one', '', 'two']),
    ('\\n', ['']),
    ('', []),
    ('%s %d %(name)s {} \\\\', ['%s %d %(name)s {} \\']),
    ('a\\tb', ['a\tb']),
    ('\\033[31mred\\033[0m \\033]0;title\\007', ['\\x1b[31mred\\x1b[0m \\x1b]0;title\\x07']),
    ('a\\rb\\r\\n', ['a\\rb\\r']),
    ('\\000\\001\\377\\376 \\342\\230 \\302\\205', ['\\x00\\x01\\xff\\xfe \\xe2\\x98 \\x85']),
    ('\\342\\200\\250\\303\\251 \\342\\230\\203', ['\\u2028é \u2603']),
])
def test_what_is_printed_is_logged_as_text_that_steers_no_terminal(
        twitcher: Twitcher, ensemble: Ensemble, printed: str, logged: List[str]) -> None:
    action = f"Exec(['printf', '%b', r'''{printed}'''])"
    assert run_once(twitcher, ensemble, action, len(logged)) == logged


def test_a_line_is_logged_while_the_action_goes_on(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('o.twc', "RegisterWatch('/o', Exec('echo now; exec sleep 1000'), description='it')")
    ensemble.put('/o', '')
    twitcher.start()
    assert twitcher.wait_printed('it', 1) == ['now']
    assert not twitcher.ended('it')


def test_megabytes_without_newline_are_cut_into_pieces_in_bounded_memory(
        twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    text = ''.join(random.Random(1).choices(string.ascii_letters, k=8000000))
    (tmp_path / 'text').write_text(text)
    twitcher.config('o.twc', f"RegisterWatch('/o', Exec('case `cat` in 0) echo small;; 1) cat {tmp_path}/text;; esac'), "
                             "description='it')")
    ensemble.put('/o', 0)
    twitcher.start()
    twitcher.wait_printed('it', 1)
    reader = output_process(twitcher)
    before = int(process_status(reader)['VmHWM'].split()[0])
    ensemble.put('/o', 1)
    pieces = twitcher.wait_printed('it', 1 + len(text) // MAX_LINE)[1:]
    assert twitcher.wait_ended('it', 2) == ['exited 0', 'exited 0']
    assert ''.join(pieces) == text
    assert max(map(len, pieces)) == MAX_LINE
    assert int(process_status(reader)['VmHWM'].split()[0]) < before + 4096  # kB


def test_a_long_line_is_not_cut_within_a_character(twitcher: Twitcher, ensemble: Ensemble) -> None:
    text = 'x' + '\u2603\U0001f600é' * 5000
    pieces = run_once(twitcher, ensemble, 'lambda: print("x" + "\\u2603\\U0001f600\\u00e9" * 5000)', 23)
    assert ''.join(pieces) == text


def test_a_chatty_action_delays_no_other_watch(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('chatty.twc', "RegisterWatch('/chatty', Exec('yes | head -c 50000000'))")
    twitcher.config('other.twc', f"RegisterWatch('/other', Exec('echo `cat` >> {trace}; echo heard'))")
    ensemble.put('/chatty', '')
    twitcher.start()
    wait_for('the beginning', lambda: twitcher.log_path.stat().st_size > 1000000)
    for number in range(20):
        ensemble.put('/other', number)
        trace.wait(number + 1)
    [pid] = twitcher.wait_started('chatty.twc')
    assert is_alive(pid)
    os.killpg(pid, signal.SIGKILL)
    assert trace.lines() == [str(number) for number in range(20)]


def test_another_process_takes_over_when_the_one_that_reads_the_output_is_killed(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('o.twc', f'''
        RegisterWatch('/o', Exec("""echo first; {until(trace.path)}
                                    head -c 300000 /dev/zero | tr '\\\\0' x; echo; echo last; exit 3"""), description='it')
        RegisterWatch('/p', Exec('echo another'), description='other')
    ''')
    ensemble.put('/o', '')
    twitcher.start()
    twitcher.wait_printed('it', 1)
    for _ in range(2):
        reader = output_process(twitcher)
        os.kill(reader, signal.SIGKILL)
        wait_for('its end', lambda: not is_alive(reader))  # noqa: B023  # it is called at once
    trace.path.touch()  # more than a pipe holds is printed while nobody reads
    ensemble.put('/p', '')
    assert twitcher.wait_ended('it') == ['exited 3']
    lines = twitcher.wait_printed('it', 2 + 300000 // MAX_LINE)
    assert ''.join(lines) == 'first' + 'x' * 300000 + 'last'
    assert twitcher.wait_printed('other', 1) == ['another']
    assert twitcher.log_lines('ERROR: the process that logs the output of actions has died')


def test_a_run_that_ends_while_nobody_reads_loses_nothing(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('o.twc', "RegisterWatch('/o', Exec('echo `cat`'), description='it')")
    ensemble.put('/o', 0)
    twitcher.start()
    twitcher.wait_printed('it', 1)
    os.kill(output_process(twitcher), signal.SIGKILL)
    for number in range(1, 6):
        ensemble.put('/o', number)
        twitcher.wait_ended('it', number + 1)
    assert sorted(twitcher.wait_printed('it', 6)) == ['0', '1', '2', '3', '4', '5']


def test_what_is_left_in_the_background_is_logged_after_the_end_of_the_run(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('o.twc', f"RegisterWatch('/o', Exec('({until(trace.path)}; echo later; "
                             "printf end) & echo now'), description='it')")
    ensemble.put('/o', '')
    twitcher.start()
    assert twitcher.wait_ended('it') == ['exited 0']
    assert twitcher.wait_printed('it', 1) == ['now']
    trace.path.touch()
    assert twitcher.wait_printed('it', 3) == ['now', 'later', 'end']


@pytest.mark.parametrize('end', ['SIGTERM', 'SIGINT', 'SIGKILL'])
@pytest.mark.parametrize('kind', ['command', 'function'])
def test_an_action_that_prints_while_the_daemon_ends_is_undisturbed_and_logged_whole(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, end: str, kind: str) -> None:
    action = {'function': 'function', 'command': f"""Exec('''
        i=0; while [ $i -lt 3000 ]; do echo line $i; [ $i != 100 ] || echo started >> {trace}
            while [ $i = 2000 ] && [ ! -e {trace}.go ]; do sleep 0.02; done; i=$((i + 1)); done
        echo ended >> {trace}''')"""}[kind]
    text = f'''
import os, time
def function():
    for number in range(3000):
        print('line', number)
        if number == 100:
            print('started', file=open('{trace}', 'a'))
        while number == 2000 and not os.path.exists('{trace}.go'):
            time.sleep(0.02)
    print('ended', file=open('{trace}', 'a'))
RegisterWatch('/o', {action}, description='it')
'''
    twitcher.config('o.twc', text)
    ensemble.put('/o', '')
    twitcher.start()
    trace.wait_for_line('started')
    twitcher.wait_printed('it', 1)
    assert twitcher.process
    twitcher.process.send_signal(getattr(signal, end))
    assert twitcher.process.wait(20) == (-9 if end == 'SIGKILL' else 0)
    [pid] = twitcher.wait_started('it')
    assert is_alive(pid)
    Path(f'{trace}.go').touch()
    assert trace.wait(2) == ['started', 'ended']
    assert twitcher.wait_printed('it', 3000) == [f'line {number}' for number in range(3000)]


@pytest.mark.parametrize('when', ['its first', 'a later'])
@pytest.mark.parametrize('kind', ['command', 'function'])
def test_an_action_is_undisturbed_and_logged_when_the_daemon_is_killed_as_soon_as_it_has_started_the_run(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, kind: str, when: str) -> None:
    twitcher.config('o.twc', f'''
        import os, sys
        def function():
            if sys.stdin.read() == 'kill':
                os.kill(os.getppid(), 9)
            print('last words')
            print('survived', file=open('{trace}', 'a'))
        command = Exec('[ `cat` != kill ] || kill -9 $PPID; echo last words; echo survived >> {trace}')
        RegisterWatch('/o', {kind}, description='it')
    ''')
    twitcher.start()
    if when == 'a later':
        ensemble.put('/o', 'live')
        twitcher.wait_printed('it', 1)
        twitcher.wait_ended('it')
    before = len(trace.lines())
    ensemble.put('/o', 'kill')
    assert twitcher.process
    assert twitcher.process.wait(20) == -9
    assert trace.wait(before + 1)[before:] == ['survived']
    # Killed in the very instant, a daemon may not have told the process's pid: then the line has a question mark.
    twitcher.wait_log(r': it\[(\d+|\?)\]: last words$', count=before + 1)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGPIPE'])
def test_signals_that_stop_a_daemon_do_not_stop_the_reading_of_output(
        twitcher: Twitcher, ensemble: Ensemble, name: str) -> None:
    twitcher.config('o.twc', "RegisterWatch('/o', Exec('echo `cat`'), description='it')")
    ensemble.put('/o', 0)
    twitcher.start()
    twitcher.wait_printed('it', 1)
    reader = output_process(twitcher)
    os.kill(reader, getattr(signal, name))
    ensemble.put('/o', 1)
    assert twitcher.wait_printed('it', 2) == ['0', '1']
    assert output_process(twitcher) == reader


def test_the_process_that_reads_the_output_ends_with_the_daemon_and_the_last_action(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('o.twc', f"RegisterWatch('/o', Exec('echo hello; {until(trace.path)}'), "
                             "description='it')")
    ensemble.put('/o', '')
    twitcher.start()
    twitcher.wait_printed('it', 1)
    reader = output_process(twitcher)
    assert twitcher.stop() == 0
    assert is_alive(reader)
    trace.path.touch()
    wait_for('the end of the reader', lambda: not is_alive(reader))


def test_side_by_side_runs_keep_their_lines_apart(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('o.twc', '''
        for number in range(8):
            command = f"i=0; while [ $i -lt 200 ]; do printf 'half {number} '; echo $i; i=$((i + 1)); done"
            RegisterWatch('/o', Exec(command), description=f'it {number}')
    ''')
    ensemble.put('/o', '')
    twitcher.start()
    for number in range(8):
        assert twitcher.wait_printed(f'it {number}', 200) == [f'half {number} {line}' for line in range(200)]


@pytest.mark.parametrize('kind', ['command', 'function'])
def test_more_runs_than_there_are_descriptors_for_all_run_and_are_all_logged(
        twitcher: Twitcher, ensemble: Ensemble, kind: str) -> None:
    twitcher.config('o.twc', f'''
        import time
        command = Exec('sleep 0.2; cat')
        def function():
            time.sleep(0.2)
            print('hello')
        for number in range(60):
            RegisterWatch('/o', {kind}, description=f'it {{number}}')
    ''')
    ensemble.put('/o', 'hello')
    twitcher.start(wrapper=['sh', '-c', 'ulimit -n 70; exec "$@"', 'sh'])
    for number in range(60):
        assert twitcher.wait_ended(f'it {number}') == ['exited 0']
        assert twitcher.wait_printed(f'it {number}', 1) == ['hello']
    assert all(len(twitcher.started(f'it {number}')) == 1 for number in range(60))
