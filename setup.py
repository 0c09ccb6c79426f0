import pathlib
import re

from setuptools import setup

HERE = pathlib.Path(__file__).parent

setup(
    name='twitcher',
    version=re.search(r"__version__ = '(.+)'", (HERE / 'twitcher' / '__init__.py').read_text()).group(1),
    description='Runs scripts when a znode in ZooKeeper changes',
    long_description=(HERE / 'README').read_text(),
    license='Apache-2.0',
    packages=['twitcher'],
    scripts=['bin/twitcher', 'bin/twitcherctl'],
    python_requires='>=3.9',
    install_requires=[
        'kazoo>=2.8.0',
        'pyinotify>=0.9.6',
        'python-daemon>=2.3.2',
        'pyasyncore; python_version >= "3.12"',  # pyinotify imports asyncore, which left the standard library
    ],
    extras_require={
        'run': [],
        'test': ['hypothesis', 'mypy', 'pytest>=7', 'pytest-randomly', 'pytest-timeout', 'pytest-xdist', 'ruff'],
    },
)
