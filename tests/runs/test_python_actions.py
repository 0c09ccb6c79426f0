"""Actions that are Python functions: what they find, print and may do, against a running daemon."""

from __future__ import annotations

from tests.support.daemon import Twitcher, outcomes
from tests.support.ensemble import Ensemble


def test_globals_and_the_environment_do_not_survive_the_fork(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('g.twc', '''
        import os
        count = 0
        seen = []
        def f():
            global count
            count += 1
            seen.append(count)
            os.environ['LEFT'] = os.environ.get('LEFT', '') + 'x'
            print(count, len(seen), os.environ['LEFT'])
        RegisterWatch('/g', f, description='f')
    ''')
    ensemble.put('/g', 0)
    twitcher.start()
    for number in (1, 2, 3):
        assert twitcher.wait_printed('f', number) == ['1 1 x'] * number
        ensemble.put('/g', number)


def test_functions_see_the_globals_and_functions_of_their_file_and_no_others(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('other.twc', 'name = "wrong"\nonly_here = True\n')
    found = outcomes(twitcher, ensemble, '''
        def f():
            print(name, helper(), 'only_here' in globals(), __file__.endswith('a.twc'))
        def helper():
            return later
        name, later = 'mine', 'defined below'
    ''')
    assert found['f'] == ('exited 0', ['mine defined below False True'])


def test_all_that_a_function_prints_is_logged_in_order(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import os, subprocess, sys
        def mixed():
            print('one')
            print('two', file=sys.stderr)
            sys.stdout.write('three\\n')
            subprocess.call('echo four; echo five >&2', shell=True)
            os.write(1, b'six\\n')
            sys.stdout.buffer.write(b'seven\\n')
            sys.stdout.flush()
            print('é\\u2603 \\ud800 \\x1b[31m')
            print('no newline', end='')
        def dies():
            print('before it dies')
            os.kill(os.getpid(), 9)
        def raises():
            print('unfinished', end='')
            raise OSError('then')
    ''')
    assert found['mixed'] == ('exited 0', ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'é\u2603 \\ud800 \\x1b[31m',
                                           'no newline'])
    assert found['dies'] == ('was killed by SIGKILL', ['before it dies'])
    assert found['raises'][0] == 'exited 1'
    assert ''.join(found['raises'][1]).count('unfinished') == 1


def test_a_last_line_without_newline_is_logged_from_either_stream(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import sys
        def out():
            sys.stdout.write('unfinished')
        def error():
            sys.stderr.write('unfinished')
    ''')
    assert found == {'out': ('exited 0', ['unfinished']), 'error': ('exited 0', ['unfinished'])}


def test_a_function_finds_no_event_loop_of_the_daemon(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import asyncio
        async def answer():
            await asyncio.sleep(0)
            return 'the answer'
        def old_style():
            try:
                loop = asyncio.get_event_loop()
            except RuntimeError:  # from Python 3.14 on there is none unless one is made
                loop = asyncio.new_event_loop()
            print(loop.run_until_complete(answer()))
    ''')
    assert found == {'old_style': ('exited 0', ['the answer'])}


def test_a_function_may_use_logging_as_any_program_does(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import logging
        log = logging.getLogger('mine')
        def plain():
            log.warning('a %s', 'warning')
            log.debug('not shown')
        def configured():
            logging.basicConfig(level=logging.DEBUG, format='%(name)s says %(message)s')
            log.debug('hello')
        def of_root():
            logging.error('an error')
    ''')
    assert found['plain'][0] == 'exited 0'
    assert [line for line in found['plain'][1] if 'a warning' in line] == found['plain'][1] != []
    assert len(found['plain'][1]) == 1
    assert [line.count('an error') for line in found['of_root'][1]] == [1]
    assert found['configured'] == ('exited 0', ['mine says hello'])


def test_a_function_may_use_threads_processes_and_event_loops(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import asyncio, concurrent.futures, multiprocessing, os, signal, subprocess, sys, threading
        async def ask():
            process = await asyncio.create_subprocess_exec('echo', 'from a child', stdout=subprocess.PIPE)
            answer, _ = await process.communicate()
            await asyncio.sleep(0.01)
            return answer.decode().strip()
        def threads():
            thread = threading.Thread(target=print, args=('from a thread',))
            thread.start()
            thread.join()
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                print(sum(pool.map(len, ['a', 'bb', 'ccc'])), threading.current_thread() is threading.main_thread())
        def forks():
            process = multiprocessing.get_context('fork').Process(target=print, args=('from a fork',))
            process.start()
            process.join()
            return process.exitcode
        def coroutine():
            print(asyncio.run(ask()))
        def commands():
            print(subprocess.run(['cat'], input=b'x' * 100000, stdout=subprocess.PIPE, check=True).stdout.count(b'x'))
            print(subprocess.call('exit 3', shell=True), os.system('true'))
        def signals():
            signal.signal(signal.SIGUSR1, lambda *_: print('caught'))
            os.kill(os.getpid(), signal.SIGUSR1)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            signal.pause()
    ''')
    assert found == {
        'threads': ('exited 0', ['from a thread', '6 True']), 'forks': ('exited 0', ['from a fork']),
        'coroutine': ('exited 0', ['from a child']),
        'commands': ('exited 0', ['100000', '3 0']), 'signals': ('was killed by SIGALRM', ['caught'])}


def test_exec_inside_a_function_replaces_it_with_the_command(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import os
        early = Exec('echo $X; exit 5')
        cat = Exec('cat')
        missing_program = Exec(['/no/such/program'])
        three_words = Exec(['printf', '%s|', 'a b', '$X', ''])
        def shell():
            os.environ['X'] = 'made before'
            early()
        def prints_before():
            print('first', end=' ')
            early()
        def exact():
            three_words()
        def reads():
            cat()
        def missing():
            missing_program()
        def wrong():
            Exec([])
        def returned():
            return early
    ''', contents=b'contents')
    assert found['shell'] == ('exited 5', ['made before'])
    assert found['prints_before'] == ('exited 5', ['first '])
    assert found['exact'] == ('exited 0', ['a b|$X||'])
    assert found['reads'] == ('exited 0', ['contents'])
    assert found['missing'][0] == found['wrong'][0] == found['returned'][0] == 'exited 1'
    assert 'No such file or directory' in found['missing'][1][-1]
    assert 'allowed' in found['wrong'][1][-1]


def test_exec_may_be_made_inside_the_function_that_calls_it(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        def shell():
            Exec(f'echo {1 + 1}; exit 6')()
        def exact():
            Exec(['echo', str(1 + 1)])()
    ''')
    assert found == {'shell': ('exited 6', ['2']), 'exact': ('exited 0', ['2'])}


def test_a_function_reads_the_contents_from_sys_stdin(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import sys
        def text():
            print(ascii(sys.stdin.read()), repr(sys.stdin.read()))
        def by_line():
            for line in sys.stdin:
                print(ascii(line))
        def binary():
            print(sys.stdin.buffer.read())
        def asked():
            print(ascii(input()), ascii(input()))
    ''', contents='é1\nzwei'.encode() + b'\xff')
    assert found == {
        'text': ('exited 0', ["'\\xe91\\nzwei\\udcff' ''"]), 'by_line': ('exited 0', ["'\\xe91\\n'", "'zwei\\udcff'"]),
        'binary': ('exited 0', [str('é1\nzwei'.encode() + b'\xff')]), 'asked': ('exited 0', ["'\\xe91' 'zwei\\udcff'"])}


def test_any_callable_is_an_action(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('c.twc', '''
        import functools
        class Caller:
            def __call__(self):
                print('an object')
            def method(self):
                print('a method')
        RegisterWatch('/c', functools.partial(print, 'a partial'), description='partial')
        RegisterWatch('/c', Caller(), description='object')
        RegisterWatch('/c', Caller().method, description='method')
        RegisterWatch('/c', lambda: print('a lambda'), description='lambda')
        RegisterWatch('/c', functools.partial(int, 'x'), description='built in')
    ''')
    ensemble.put('/c', '')
    twitcher.start()
    for description in ('partial', 'object', 'method', 'lambda'):
        assert twitcher.wait_ended(description) == ['exited 0']
        assert twitcher.wait_printed(description, 1)[0].endswith(f' {description}')
    assert twitcher.wait_ended('built in') == ['exited 1']
    twitcher.wait_log(r"built in\[\d+\]: ValueError: invalid literal")
