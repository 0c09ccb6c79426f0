"""The texts that come with Twitcher, taken apart: README and doc/ into blocks, the manual pages into sections and terms."""

from __future__ import annotations

import html
import re
import subprocess
from typing import Dict, List

from tests.support.programs import TOP

PAGES = ['twitcher.8', 'twitcher.twc.5', 'twitcherctl.8']
README = (TOP / 'README').read_text()
DOCUMENTS = {f'doc/{path.name}': path.read_text() for path in sorted((TOP / 'doc').iterdir())}
MARKDOWN = {'README': README, **DOCUMENTS}
"""The text of each document in Markdown, by its path."""


def blocks(text: str, language: str) -> List[str]:
    """The contents of the fenced blocks in a language."""
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


def languages(text: str) -> List[str]:
    """The languages of all fenced blocks."""
    return re.findall(r'^```(\w+)$', text, re.MULTILINE)


def commands(text: str) -> List[List[str]]:
    """The lines of each console block, with their prompts: `$ ` for every user, `# ` for root."""
    return [block.splitlines() for block in blocks(text, 'console')]


def quoted_output(text: str) -> List[str]:
    """The lines that are indented by four blanks and begin as those of a log do."""
    return re.findall(r'^    (twitcher\[.*)$', text, re.MULTILINE)


def shape(line: str) -> str:
    """A regular expression for a line that differs from this one in numbers only."""
    return re.sub(r'\d+(?:\\\.\d+)?', r'\\d+(?:\\.\\d+)?', re.escape(line))


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


def example_commands(page: str) -> List[str]:
    """The command lines among the examples of a page, with their prompts, and the lines of scripts."""
    markup = section(page, 'EXAMPLES')
    single = [' '.join(as_text(text).split()) for text in re.findall(r'<code class="Li">(.*?)</code>', markup, re.DOTALL)]
    return [*single, *(line for text in literals(page, 'EXAMPLES') for line in text.splitlines())]
