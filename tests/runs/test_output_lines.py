"""How a stream of bytes is cut into the lines of the log: no process."""

from __future__ import annotations

from typing import List

from hypothesis import given
from hypothesis import strategies as st

from twitcher.runs.output_process import MAX_LINE, Lines

# Many newlines, and many lines of about the greatest length.
_PARTS = st.one_of(
    st.binary(max_size=50), st.just(b'\n'), st.integers(MAX_LINE - 3, MAX_LINE + 3).map(lambda count: b'x' * count),
    st.just('é\u2603\U0001f600'.encode()), st.just('\U0001f600'.encode() * 1200))
STREAMS = st.lists(_PARTS, max_size=12).map(b''.join)
CUTS = st.lists(st.integers(0, 10000), max_size=12)


def lines_of(stream: bytes, cuts: List[int]) -> List[bytes]:
    """The lines of the stream when it comes in chunks that end at the cuts."""
    lines, start = Lines(), 0
    found: List[bytes] = []
    for cut in [*sorted(cuts), len(stream)]:
        if stream[start:cut]:
            found += lines.take(stream[start:cut])
            assert len(lines.rest) <= MAX_LINE
        start = max(start, cut)
    return [*found, *lines.end()]


@given(STREAMS, CUTS)
def test_nothing_is_lost_and_nothing_is_too_long(stream: bytes, cuts: List[int]) -> None:
    lines = lines_of(stream, cuts)
    assert b''.join(lines) == stream.replace(b'\n', b'')
    assert all(len(line) <= MAX_LINE for line in lines)


@given(STREAMS, CUTS)
def test_short_lines_stay_as_they_are_however_they_come(stream: bytes, cuts: List[int]) -> None:
    expected = stream.split(b'\n')
    if not expected[-1]:
        del expected[-1]
    if all(len(line) <= MAX_LINE for line in expected):
        assert lines_of(stream, cuts) == expected


@given(st.text(alphabet='aé\u2603\U0001f600', max_size=3000).map(str.encode), CUTS)
def test_no_character_is_cut_in_two(stream: bytes, cuts: List[int]) -> None:
    for line in lines_of(stream, cuts):
        line.decode()


@given(STREAMS, CUTS)
def test_how_the_stream_comes_in_chunks_changes_nothing(stream: bytes, cuts: List[int]) -> None:
    assert lines_of(stream, cuts) == lines_of(stream, [])


def test_a_line_is_told_as_soon_as_its_newline_has_come() -> None:
    lines = Lines()
    assert list(lines.take(b'one\ntwo\nth')) == [b'one', b'two']
    assert list(lines.take(b'ree\n')) == [b'three']
    assert list(lines.end()) == []


def test_empty_lines_are_lines_but_nothing_after_the_last_newline_is() -> None:
    assert lines_of(b'\n\na\n\n', []) == [b'', b'', b'a', b'']
