"""Builds and installs Twitcher. In place of a MANIFEST.in, it also says what a source
distribution contains."""

import os
import pathlib
import re

from setuptools import setup
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).parent


def files_below(*names):
    """All files below these directories, and these files themselves, if they exist."""
    paths = (path for name in names for path in [HERE / name, *(HERE / name).rglob('*')])
    return sorted(str(path.relative_to(HERE)) for path in paths if path.is_file() and '__pycache__' not in path.parts)


def by_directory(target, *names):
    """All files below these directories, each with its place below the target."""
    return [(f'{target}/{os.path.relpath(os.path.dirname(path), name)}'.rstrip('/.'), [path])
            for name in names for path in files_below(name)]


def man_pages():
    """The manual pages, each with the directory of its section."""
    return [(f'share/man/man{path[-1]}', [path]) for path in files_below('man') if re.search(r'\.[1-9]$', path)]


class SourceDistribution(sdist):
    """A source distribution with everything that is needed to test and package Twitcher."""

    def make_release_tree(self, base_dir, files):
        more = files_below('bench', 'bin', 'debian', 'dev', 'doc', 'etc', 'man', 'tests', 'CHANGES', 'README.md')
        super().make_release_tree(base_dir, sorted({*files, *more}))


setup(
    name='twitcher',
    version=re.search(r"__version__ = '(.+)'", (HERE / 'twitcher' / '__init__.py').read_text()).group(1),
    description='Runs scripts when a znode in ZooKeeper changes',
    long_description=(HERE / 'README').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The Twitcher maintainers',
    license='Apache-2.0',
    keywords='zookeeper watch daemon deployment configuration',
    classifiers=[
        'Development Status :: 5 - Production/Stable',
        'Environment :: No Input/Output (Daemon)',
        'Intended Audience :: System Administrators',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(9, 15)),
        'Topic :: System :: Clustering',
        'Topic :: System :: Systems Administration',
    ],
    packages=['twitcher', 'twitcher.config', 'twitcher.ctl', 'twitcher.runs', 'twitcher.watches', 'twitcher.zookeeper'],
    entry_points={'console_scripts': ['twitcher = twitcher.__main__:main', 'twitcherctl = twitcher.ctl.cli:main']},
    data_files=[
        ('share/doc/twitcher', files_below('README')),
        *by_directory('share/doc/twitcher/doc', 'doc'),
        *by_directory('share/doc/twitcher/examples', 'etc/examples'),
        ('share/bash-completion/completions', files_below('etc/bash-completion')),
        *man_pages(),
    ],
    cmdclass={'sdist': SourceDistribution},
    python_requires='>=3.9',
    install_requires=[
        'kazoo>=2.8.0',
        'pyinotify>=0.9.6',
        'python-daemon>=2.3.2',
        'pyasyncore; python_version >= "3.12"',  # pyinotify imports asyncore, which is no longer in the standard library
    ],
    extras_require={
        'run': [],
        'test': ['build', 'hypothesis', 'mypy', 'pytest>=7.3', 'pytest-randomly', 'pytest-timeout', 'pytest-xdist', 'ruff',
                 'setuptools>=70.1'],  # which makes wheels by itself, and which Python 3.12 does not bring
    },
)
