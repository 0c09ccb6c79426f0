"""`./dev test --all`: the tests on every Python of this machine, with the newest and with the oldest libraries allowed.

The newest ones go with every Python, the oldest ones with the oldest Python and with that of Debian 12. Each combination has
a virtual environment of its own in .venv/all. A combination that fails stops none of the others.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

from tests.support.programs import TOP

_ENVIRONMENTS = TOP / '.venv' / 'all'
_DEBIAN_12 = (3, 11)
_ASK = 'import ensurepip, os, platform, sys; print(platform.python_version(), os.path.realpath(sys.executable))'

Version = Tuple[int, ...]


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine."""

    version: str
    path: str

    @property
    def series(self) -> Version:
        """Such as (3, 11)."""
        return _numbers(self.version)[:2]


@dataclass(frozen=True)
class Combination:
    """A Python, with the 'newest' or the 'oldest' libraries."""

    interpreter: Interpreter
    libraries: str

    def __str__(self) -> str:
        return f'Python {self.interpreter.version} with the {self.libraries} libraries'

    @property
    def environment(self) -> Path:
        """The directory of its virtual environment."""
        return _ENVIRONMENTS / f'{self.interpreter.version}-{self.libraries}'


def _numbers(version: str) -> Version:
    return tuple(int(digits) for digits in re.findall(r'\d+', version))


def find_interpreters(directories: Sequence[Path], least: Version) -> List[Interpreter]:
    """One Python of each series from `least` on, the oldest first; of several the one whose directory stands first."""
    found: Dict[Version, Interpreter] = {}
    refused: Dict[Version, str] = {}
    for path in (path for directory in directories for path in sorted(directory.glob('python3.*'))):
        series = _numbers(path.name)
        if re.fullmatch(r'python3\.\d+', path.name) and series >= least and series not in found:
            answer = subprocess.run([path, '-c', _ASK], capture_output=True, text=True, timeout=60)
            if answer.returncode == 0:  # pyenv's shims fail, and so does a Python that cannot make environments
                found[series] = Interpreter(*answer.stdout.strip().split(maxsplit=1))
            else:
                refused[series] = f'{path} is of no use: {(answer.stderr.splitlines() or ["it fails"])[-1].strip()}'
    for series in sorted(refused.keys() - found.keys()):
        print('==', refused[series])
    return [found[series] for series in sorted(found)]


def combinations(interpreters: Sequence[Interpreter]) -> Iterator[Combination]:
    """What is to be tested."""
    for interpreter in interpreters:
        if interpreter is interpreters[0] or interpreter.series == _DEBIAN_12:
            yield Combination(interpreter, 'oldest')
        yield Combination(interpreter, 'newest')


def oldest_libraries(requirements: Sequence[str]) -> List[str]:
    """The requirements that say 'this version or a later one', as ones that say 'this version'."""
    return [requirement.replace('>=', '==') for requirement in requirements if re.fullmatch(r'[\w-]+>=[\d.]+', requirement)]


def _install(combination: Combination, constraints: Path) -> None:
    """Raises CalledProcessError."""
    if not (combination.environment / 'bin' / 'pip').exists():
        subprocess.run([combination.interpreter.path, '-m', 'venv', '--clear', combination.environment], check=True)
    which = ['--constraint', constraints] if combination.libraries == 'oldest' else ['--upgrade', '--upgrade-strategy', 'eager']
    subprocess.run([combination.environment / 'bin' / 'pip', 'install', '--quiet', '--disable-pip-version-check',
                    '--use-pep517', *which, '--editable', f'{TOP}[test]'], check=True)


def _test(combination: Combination, arguments: Sequence[str]) -> str:
    """The verdict."""
    python = str(combination.environment / 'bin' / 'python')
    shown = subprocess.run([python, '-m', 'pip', 'freeze', '--exclude-editable'], capture_output=True, text=True).stdout
    print('   ' + ', '.join(line for line in shown.split() if re.match('kazoo|pyinotify|python-daemon', line)), flush=True)
    before = time.monotonic()
    code = subprocess.run([*([] if os.geteuid() == 0 else ['sudo']), python, '-m', 'pytest', '-n', '2', *arguments],
                          cwd=TOP).returncode
    return f'{"passed" if code == 0 else f"FAILED: pytest exited {code}"} after {time.monotonic() - before:.0f} s'


def main(arguments: Sequence[str]) -> int:
    """Test all combinations; the exit code."""
    pyenv = Path(os.environ.get('PYENV_ROOT') or Path.home() / '.pyenv')
    directories = [Path('/usr/bin'), *map(Path, os.get_exec_path()), *sorted(pyenv.glob('versions/*/bin'))]
    interpreters = find_interpreters(directories, _numbers(metadata.metadata('twitcher')['Requires-Python']))
    _ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    constraints = _ENVIRONMENTS / 'oldest.txt'
    constraints.write_text('\n'.join(oldest_libraries(metadata.requires('twitcher') or [])))
    verdicts: Dict[Combination, str] = {}
    for combination in combinations(interpreters):
        print(f'== {combination}', flush=True)
        try:
            _install(combination, constraints)
            verdicts[combination] = _test(combination, arguments)
        except subprocess.CalledProcessError as error:
            verdicts[combination] = f'FAILED: its environment cannot be made: {error.cmd[0]} exited {error.returncode}'
    print('== summary')
    for combination, verdict in verdicts.items():
        print(f'{combination!s:45} {verdict}')
    return 0 if verdicts and all(verdict.startswith('passed') for verdict in verdicts.values()) else 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
