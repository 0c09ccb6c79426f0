"""The files of etc/examples that doc/RECIPES.md explains, each run on a machine that has what it needs.

mirror.twc is tested with trees, and hello.twc and the hook of git with the README.
"""

from __future__ import annotations

import gzip
import os
import re
import signal
import tarfile
from pathlib import Path
from typing import Callable, Dict

import pytest

from tests.packaging.documents import DOCUMENTS, README, blocks
from tests.support.configs import fence
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP
from tests.support.waiting import Trace, wait_for

EXAMPLES = {path.name: path.read_text() for path in sorted((TOP / 'etc' / 'examples').glob('*.twc'))}
RECIPES = DOCUMENTS['doc/RECIPES.md']

NewProgram = Callable[[str, str], None]


@pytest.fixture
def path(tmp_path: Path) -> Dict[str, str]:
    """An environment in which the programs that a test makes are found first."""
    (tmp_path / 'bin').mkdir()
    return {'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}'}


@pytest.fixture
def program(path: Dict[str, str], tmp_path: Path) -> NewProgram:
    """Makes a program of a name out of a script."""
    def make(name: str, script: str) -> None:
        file = tmp_path / 'bin' / name
        file.write_text(f'#!/bin/sh\nset -eu\n{script}\n')
        file.chmod(0o755)

    return make


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    """A directory that is /srv to the examples."""
    (tmp_path / 'srv').mkdir()
    return tmp_path / 'srv'


def example(name: str, replacements: Dict[str, object]) -> str:
    """The text of an example, in which each of these words is replaced."""
    text = EXAMPLES[name]
    for word, other in replacements.items():
        assert word in text
        text = text.replace(word, str(other))
    return text


# The documents

def test_every_example_is_listed_in_the_readme_and_explained_in_the_recipes() -> None:
    for text in (README, RECIPES):
        assert set(EXAMPLES) <= set(re.findall(r'\w+\.twc', text))


def test_the_recipes_quote_the_examples() -> None:
    quoted = blocks(RECIPES, 'python') + blocks(RECIPES, 'sh')
    assert quoted
    for block in quoted:
        assert any(block in text for text in EXAMPLES.values()), block


def test_the_examples_load_beside_each_other_without_a_warning_and_run_nothing(twitcher: Twitcher, ensemble: Ensemble) -> None:
    for name, text in EXAMPLES.items():
        twitcher.config(name, text)
    twitcher.start()
    for name in EXAMPLES:
        twitcher.wait_log(rf'{re.escape(name)}: loaded')
    twitcher.fence(ensemble)
    assert twitcher.log_lines('WARNING|ERROR') == []
    assert twitcher.log_lines(r'pid \d+ started') == twitcher.log_lines(r'fence\.twc: pid \d+ started')


# haproxy.twc

class Balancer:
    """A machine with a load balancer that checks and reloads its configuration, whose contents are one line.

    A check fails if the line has the word `wrong`. A reload notes the line, and then fails
    if it has the word `refused`, and hangs if it has the word `hangs`.
    """

    def __init__(self, twitcher: Twitcher, ensemble: Ensemble, trace: Trace, program: NewProgram) -> None:
        self.file = twitcher.directory / 'haproxy' / 'haproxy.cfg'
        self.file.parent.mkdir()
        self.reloads = trace.lines
        self._ensemble = ensemble
        self._twitcher = twitcher
        program('haproxy', '[ "$1 $2 $3" = "-c -q -f" ] && ! grep -q wrong "$4"')
        program('systemctl', f'[ "$*" = "reload haproxy" ]; line=$(cat "{self.file}"); echo "$line" >> {trace}\n'
                             'case $line in *refused*) exit 1 ;; *hangs*) exec sleep 1000 ;; esac')

    def put(self, line: str, number: int) -> str:
        """Write the znode, and wait for the end of its run, the so-and-so-many-th; how it ended."""
        self._ensemble.put('/examples/haproxy', line)
        return self._twitcher.wait_ended('haproxy.twc', number)[number - 1]

    def files(self) -> Dict[str, str]:
        """The contents of all files in the directory of the configuration."""
        return {path.name: path.read_text() for path in self.file.parent.iterdir()}


@pytest.fixture
def balancer(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, program: NewProgram) -> Balancer:
    return Balancer(twitcher, ensemble, trace, program)


def test_a_configuration_is_replaced_in_one_step_and_only_by_one_that_the_service_accepts(
        twitcher: Twitcher, balancer: Balancer, path: Dict[str, str]) -> None:
    balancer.file.write_text('first')
    twitcher.config('haproxy.twc', example('haproxy.twc', {'/etc/haproxy/haproxy.cfg': balancer.file}))
    twitcher.start(environment=path)
    with balancer.file.open() as reader:
        assert balancer.put('second', 1) == 'exited 0'
        assert reader.read() == 'first'  # who has opened the old file reads it to its end
    assert balancer.files() == {'haproxy.cfg': 'second', 'haproxy.cfg.good': 'second'}
    assert balancer.file.stat().st_mode & 0o777 == 0o644
    assert balancer.put('wrong', 2) == 'exited 1'
    assert balancer.reloads() == ['second']
    assert balancer.put('refused', 3) == 'exited 1'
    assert balancer.put('refused too', 4) == 'exited 1'
    assert balancer.reloads() == ['second', 'refused', 'second', 'refused too', 'second']
    assert balancer.files() == {'haproxy.cfg': 'second', 'haproxy.cfg.good': 'second'}
    assert balancer.file.stat().st_mode & 0o777 == 0o644
    assert balancer.put('third', 5) == 'exited 0'
    assert balancer.files() == {'haproxy.cfg': 'third', 'haproxy.cfg.good': 'third'}


def test_the_old_configuration_comes_back_after_a_timeout_too(twitcher: Twitcher, balancer: Balancer,
                                                              path: Dict[str, str]) -> None:
    balancer.file.write_text('first')
    twitcher.config('haproxy.twc', example('haproxy.twc', {'/etc/haproxy/haproxy.cfg': balancer.file,
                                                           'timeout=60': 'timeout=2'}))
    twitcher.start(environment=path)
    assert balancer.put('hangs', 1) == 'exited 1'
    assert balancer.files() == {'haproxy.cfg': 'first', 'haproxy.cfg.good': 'first'}
    assert balancer.reloads() == ['hangs', 'first']


def test_a_configuration_that_cannot_be_replaced_leaves_nothing_behind(
        twitcher: Twitcher, balancer: Balancer, path: Dict[str, str], program: NewProgram) -> None:
    program('mv', 'exit 1')
    balancer.file.write_text('first')
    twitcher.config('haproxy.twc', example('haproxy.twc', {'/etc/haproxy/haproxy.cfg': balancer.file}))
    twitcher.start(environment=path)
    assert balancer.put('second', 1) == 'exited 1'
    assert balancer.files() == {'haproxy.cfg': 'first', 'haproxy.cfg.good': 'first'}


def test_the_first_configuration_needs_no_earlier_one(twitcher: Twitcher, balancer: Balancer, path: Dict[str, str]) -> None:
    twitcher.config('haproxy.twc', example('haproxy.twc', {'/etc/haproxy/haproxy.cfg': balancer.file}))
    twitcher.start(environment=path)
    assert balancer.put('refused', 1) == 'exited 1'
    assert balancer.files() == {}
    assert balancer.put('first', 2) == 'exited 0'
    assert balancer.files() == {'haproxy.cfg': 'first', 'haproxy.cfg.good': 'first'}


def test_a_configuration_whose_reload_was_killed_is_reloaded_by_the_next_daemon_and_is_not_taken_for_a_good_one(
        twitcher: Twitcher, ensemble: Ensemble, balancer: Balancer, path: Dict[str, str]) -> None:
    balancer.file.write_text('first')
    twitcher.config('haproxy.twc', example('haproxy.twc', {'/etc/haproxy/haproxy.cfg': balancer.file}))
    twitcher.start(environment=path)
    ensemble.put('/examples/haproxy', 'hangs')
    wait_for('the reload', lambda: balancer.reloads() == ['hangs'])
    (pid,) = twitcher.wait_started('haproxy.twc')
    os.killpg(pid, signal.SIGKILL)
    twitcher.wait_ended('haproxy.twc')
    twitcher.stop()
    ensemble.put('/examples/haproxy', 'refused')
    twitcher.start(environment=path)
    assert twitcher.wait_ended('haproxy.twc', 2)[1] == 'exited 1'
    assert balancer.reloads() == ['hangs', 'refused', 'first']
    assert balancer.file.read_text() == 'first'


# dnsmasq.twc and worker.twc

def test_a_service_is_restarted_for_a_change_and_after_its_end_and_goes_on_when_the_daemon_is_restarted(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, path: Dict[str, str], program: NewProgram) -> None:
    program('dnsmasq', f'trap "exit 0" TERM; echo "$*: $(cat)" >> {trace}\nwhile true; do sleep 0.05; done')
    twitcher.config('dnsmasq.twc', EXAMPLES['dnsmasq.twc'])
    ensemble.put('/examples/dnsmasq', 'port=1')
    arguments = '--keep-in-foreground --log-facility=- --conf-file=-'
    twitcher.start(environment=path)
    trace.wait(1)
    ensemble.put('/examples/dnsmasq', 'port=2')
    assert trace.wait(2) == [f'{arguments}: port=1', f'{arguments}: port=2']
    pid = twitcher.wait_started('dnsmasq.twc', 2)[1]
    twitcher.stop()
    twitcher.start(environment=path)
    fence(twitcher, ensemble)
    assert len(twitcher.log_lines(r'dnsmasq\.twc: an update ends pid')) == len(trace.lines()) - 1 == 1
    os.kill(pid, signal.SIGTERM)
    assert trace.wait(3)[2] == f'{arguments}: port=2'
    pid = twitcher.wait_started('dnsmasq.twc', 3)[2]
    os.kill(pid, signal.SIGTERM)
    twitcher.wait_log(r'dnsmasq\.twc: pid \d+ exited 0')
    assert trace.wait(4)[3] == f'{arguments}: port=2'
    os.killpg(twitcher.wait_started('dnsmasq.twc', 4)[3], signal.SIGKILL)
    twitcher.wait_log(r'dnsmasq\.twc: failed \(SIGKILL\), attempt 2 in 1\.0 s')
    assert trace.wait(5)[4] == f'{arguments}: port=2'


def test_a_worker_finishes_its_job_before_it_is_started_with_the_new_contents(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, srv: Path, gate: Path, path: Dict[str, str],
        program: NewProgram) -> None:
    program('gzip', f'echo "$*" >> {trace}\nuntil [ -e {gate} ]; do sleep 0.05; done\nexec /usr/bin/gzip "$@"')
    twitcher.config('worker.twc', example('worker.twc', {'/srv': srv}))
    spool = srv / 'spool'
    spool.mkdir()
    (spool / "a '$.log").write_text('a')
    (spool / 'b.log').write_text('b')
    ensemble.put('/examples/level', '1')
    twitcher.start(environment=path)
    trace.wait_for_line("-f -1 ./a '$.log")
    ensemble.put('/examples/level', '9')
    twitcher.wait_log(r'worker\.twc: SIGUSR1 to pid \d+')
    twitcher.fence(ensemble)
    gate.touch()
    trace.wait_for_line('-f -9 ./b.log')
    assert trace.lines() == ["-f -1 ./a '$.log", '-f -9 ./b.log']
    assert twitcher.wait_ended('worker.twc') == ['exited 0']
    wait_for('the files', lambda: sorted(os.listdir(spool)) == ["a '$.log.gz", 'b.log.gz'])
    assert [gzip.decompress(file.read_bytes()) for file in sorted(spool.iterdir())] == [b'a', b'b']
    ensemble.put('/examples/level', '9; touch x')
    assert twitcher.wait_printed('worker.twc', 1)[0] == 'not a level from 1 to 9: 9; touch x'


# deploy.twc

def package(srv: Path, name: str, contents: str) -> Path:
    """The archive of a version that has one file with these contents."""
    directory = srv / 'packages'
    directory.mkdir(exist_ok=True)
    (srv / 'file').write_text(contents)
    with tarfile.open(directory / f'{name}.tar.gz', 'w:gz') as archive:
        archive.add(srv / 'file', 'file')
    return directory / f'{name}.tar.gz'


@pytest.fixture
def apps(twitcher: Twitcher, srv: Path) -> Path:
    """The directory of the applications of deploy.twc, which is in force as soon as the daemon starts."""
    for application in ('shop', 'search'):
        (srv / 'apps' / application).mkdir(parents=True)
    twitcher.config('deploy.twc', example('deploy.twc', {'/srv': srv}))
    return srv / 'apps'


def test_two_applications_are_deployed_one_after_the_other(twitcher: Twitcher, ensemble: Ensemble, srv: Path,
                                                           apps: Path) -> None:
    archive = package(srv, 'shop-1.0', 'shop 1.0').read_bytes()
    slow = srv / 'packages' / 'shop-1.0.tar.gz'
    slow.unlink()
    os.mkfifo(slow)  # tar waits for a writer
    package(srv, 'search-2.0', 'search 2.0')
    twitcher.start()
    ensemble.put('/examples/versions/shop', '1.0')
    twitcher.wait_started('deploy shop')
    ensemble.put('/examples/versions/search', '2.0')
    twitcher.wait_log("deploy search: waits for lock 'deploy'")
    twitcher.fence(ensemble)
    assert twitcher.started('deploy search') == []
    slow.write_bytes(archive)
    assert twitcher.wait_ended('deploy search') == ['exited 0']
    assert twitcher.ended('deploy shop') == ['exited 0']
    assert (apps / 'shop/current/file').read_text() == 'shop 1.0'
    assert (apps / 'search/current/file').read_text() == 'search 2.0'


def test_a_version_appears_whole_or_not_at_all_and_an_earlier_one_can_come_back(
        twitcher: Twitcher, ensemble: Ensemble, srv: Path, apps: Path) -> None:
    package(srv, 'shop-1.0', 'one')
    package(srv, 'shop-1.1', 'two')
    (srv / 'packages' / 'shop-1.2.tar.gz').write_bytes(package(srv, 'shop-1.1', 'two').read_bytes()[:40])
    twitcher.start()
    for number, (version, end, contents) in enumerate([
            ('1.0', 'exited 0', 'one'), ('1.1', 'exited 0', 'two'), ('1.2', 'exited 2', 'two'), ('../1.0', 'exited 1', 'two'),
            ('1.0/.', 'exited 1', 'two'), ('current', 'exited 1', 'two'), ('1.0', 'exited 0', 'one')], 1):
        ensemble.put('/examples/versions/shop', version)
        assert twitcher.wait_ended('deploy shop', number)[number - 1] == end, version
        assert (apps / 'shop/current/file').read_text() == contents, version
    assert sorted(os.listdir(apps / 'shop')) == ['1.0', '1.1', 'current']


# migrate.twc

def test_a_migration_that_fails_is_tried_again_and_then_no_more_until_its_file_is_changed(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, srv: Path) -> None:
    (srv / 'app').mkdir()
    program = srv / 'app' / 'migrate'
    program.write_text(f'#!/bin/sh\necho "$TWITCHER_ATTEMPT $(cat)" >> {trace}\n[ -e repaired ]\n')
    program.chmod(0o755)
    text = example('migrate.twc', {'/srv': srv, 'delay=10': 'delay=0.1'})
    twitcher.config('migrate.twc', text)
    ensemble.put('/examples/schema', '7')
    twitcher.start()
    twitcher.wait_log(r'ERROR: migrate\.twc: failed \(exit 1\): stopped \(on_failure\)')
    assert [line.rpartition(' in ')[2] for line in twitcher.log_lines('attempt . of 4')] == ['0.1 s', '0.3 s', '0.9 s']
    ensemble.put('/examples/schema', '8')
    twitcher.fence(ensemble)
    assert trace.lines() == ['1 7', '2 7', '3 7', '4 7']
    (srv / 'app' / 'repaired').touch()
    twitcher.config('migrate.twc', text.replace('delay=0.1', 'delay=0.2'))
    assert trace.wait(5)[4] == '1 8'
    assert twitcher.wait_ended('migrate.twc', 5)[4] == 'exited 0'


# throttle.twc

def test_changes_in_the_ten_seconds_are_one_more_run_after_them_also_if_a_run_fails(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, srv: Path, tmp_path: Path, path: Dict[str, str],
        program: NewProgram) -> None:
    program('sleep', f'[ "$1" = 10 ]; until [ -e {tmp_path}/over ]; do /bin/sleep 0.05; done; rm {tmp_path}/over')
    (srv / 'site').mkdir()
    build = srv / 'site' / 'build'
    build.write_text(f'#!/bin/sh\nline=$(cat)\necho "$line" >> {trace}\n[ "$line" != bad ]\n')
    build.chmod(0o755)
    twitcher.config('throttle.twc', example('throttle.twc', {'/srv': srv}))
    ensemble.put('/examples/site', 'good')
    twitcher.start(environment=path)
    trace.wait(1)
    for line in ('worse', 'bad'):
        ensemble.put('/examples/site', line)
    twitcher.fence(ensemble)
    assert (trace.lines(), twitcher.ended('throttle.twc')) == (['good'], [])
    (tmp_path / 'over').touch()
    assert trace.wait(2) == ['good', 'bad']
    assert twitcher.wait_ended('throttle.twc') == ['exited 0']
    ensemble.put('/examples/site', 'better')
    twitcher.fence(ensemble)
    assert (trace.lines(), twitcher.ended('throttle.twc')) == (['good', 'bad'], ['exited 0'])
    (tmp_path / 'over').touch()
    assert trace.wait(3) == ['good', 'bad', 'better']
    assert twitcher.wait_ended('throttle.twc', 2) == ['exited 0', 'exited 1']


def test_a_run_that_is_throttled_lasts_as_long_as_its_example_says(twitcher: Twitcher, ensemble: Ensemble, srv: Path) -> None:
    (srv / 'site').mkdir()
    build = srv / 'site' / 'build'
    build.write_text('#!/bin/sh\n')
    build.chmod(0o755)
    twitcher.config('throttle.twc', example('throttle.twc', {'/srv': srv, 'sleep 10': 'sleep 1'}))
    ensemble.put('/examples/site', '')
    twitcher.start()
    _, end, seconds = twitcher.wait_end_line('throttle.twc').groups()
    assert end == 'exited 0' and float(seconds) >= 1
