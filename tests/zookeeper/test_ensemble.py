"""The host list: what is taken and in which form, what is refused, and that kazoo can use whatever is taken."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kazoo.client import KazooClient

from twitcher.errors import UsageError
from twitcher.zookeeper.ensemble import Ensemble

LABEL = 'x' * 63


@pytest.mark.parametrize('text, checked', [
    ('localhost', 'localhost:2181'),
    ('zk1:1', 'zk1:1'),
    ('zk1:65535', 'zk1:65535'),
    ('zk1:02181', 'zk1:2181'),
    ('zk1,zk2:2182,zk3', 'zk1:2181,zk2:2182,zk3:2181'),
    (' zk1 , zk2:2182 ', 'zk1:2181,zk2:2182'),
    ('zk-1.example.com.:2181', 'zk-1.example.com.:2181'),
    ('under_score:1', 'under_score:1'),
    ('10.0.0.1', '10.0.0.1:2181'),
    ('[::1]', '[::1]:2181'),
    ('[::1]:2182,[2001:db8::1]', '[::1]:2182,[2001:db8::1]:2181'),
    (f'{LABEL}.{LABEL}:1', f'{LABEL}.{LABEL}:1'),
    ('zk1/', 'zk1:2181'),
    ('zk1/a', 'zk1:2181/a'),
    ('zk1:1,zk2:2/a/b-c.d', 'zk1:1,zk2:2/a/b-c.d'),
    ('zk1/naïve', 'zk1:2181/naïve'),
])
def test_a_good_list_is_completed_with_the_default_port(text: str, checked: str) -> None:
    assert str(Ensemble.parse(text)) == checked
    assert Ensemble.parse(checked) == Ensemble.parse(text)


@pytest.mark.parametrize('text, named', [
    ('', "''"),
    (' ', "''"),
    (',', "''"),
    ('zk1,', "''"),
    ('zk1,,zk2', "''"),
    ('/chroot', "''"),
    ('zk://a:1', "'zk:'"),
    ('http://a:1/b', "'http:'"),
    ('a..b', "'a..b'"),
    ('.a', "'.a'"),
    ('a..', "'a..'"),
    ('x' * 64, 'xxxx'),
    ('.'.join([LABEL] * 4), 'xxxx'),
    ('-a', "'-a'"),
    ('a-', "'a-'"),
    ('a b', "'a b'"),
    ('a\nb', r"'a\nb'"),
    ('a;b', "'a;b'"),
    ('user@a', "'user@a'"),
    ('a?b', "'a?b'"),
    ('zk1:', "'zk1:'"),
    ('zk1:0', "'zk1:0'"),
    ('zk1:65536', "'zk1:65536'"),
    ('zk1:-1', "'zk1:-1'"),
    ('zk1:+1', "'zk1:+1'"),
    ('zk1:2181x', "'zk1:2181x'"),
    ('zk1:١', "'zk1:١'"),
    ('zk1:1:2', "'zk1:1:2'"),
    ('naïve', "'naïve'"),
    ('::1', "'::1'"),
    ('[::1', "'[::1'"),
    ('[]', "'[]'"),
    ('[zk1]', "'[zk1]'"),
    ('[::1]2181', "'[::1]2181'"),
    ('[1.2.3.4]', "'[1.2.3.4]'"),
    ('a:1,b:2/foo,c:3', "'/foo,c:3'"),
    ('a:1/foo,b:2/foo', "'/foo,b:2/foo'"),
    ('a/foo/', "'/foo/'"),
    ('a//foo', "'//foo'"),
    ('a/foo/../bar', "'/foo/../bar'"),
    ('a/./b', "'/./b'"),
    ('a/b\0', r"'/b\x00'"),
])
def test_a_bad_list_is_refused_naming_the_part_that_is_wrong_and_what_is_allowed(text: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        Ensemble.parse(text)
    assert named in str(caught.value)
    assert repr(text) in str(caught.value)
    assert 'allowed: HOST:PORT,...[/CHROOT]' in str(caught.value)
    assert '\n' not in str(caught.value)


HOST = st.one_of(
    st.text(max_size=6),
    st.text('ab-_.', max_size=70),
    st.sampled_from(['localhost', '10.0.0.1', 'x' * 63, 'x' * 64, '[::1]', '[fe80::1%eth0]', '[::ffff:1.2.3.4]']),
    st.text('[]:1af%/?#@ \\e', max_size=8).map(lambda inner: f'[fe80::1%{inner}]'),
    st.text('0123456789abcdef:.%', max_size=20).map(lambda inner: f'[{inner}]'),
)
PORT = st.one_of(st.just(''), st.integers(-1, 70000).map(':{}'.format), st.text(max_size=3).map(':{}'.format))
CHROOT = st.one_of(st.just(''), st.text(max_size=8).map(lambda text: f'/{text}'), st.text('ab/.,:', max_size=8))


@settings(max_examples=1000, deadline=None, database=None)
@example([('[fe80::1%a?b]', '')], '')
@example([('[fe80::1%a@b]', '')], '')
@example([('[fe80::1%ä]', '')], '')
@example([('[fe80::1% ]', '')], '')
@given(st.lists(st.tuples(HOST, PORT), max_size=3), CHROOT)
def test_whatever_is_taken_means_the_same_to_kazoo(servers: list[tuple[str, str]], chroot: str) -> None:
    text = ','.join(host + port for host, port in servers) + chroot
    try:
        ensemble = Ensemble.parse(text)
    except UsageError:
        return
    client = KazooClient(str(ensemble))
    names = [server.rpartition(':')[0].strip('[]').lower() for server in ensemble.servers]
    assert [name.lower() for name, _ in client.hosts] == names
    assert all(1 <= port <= 65535 for _, port in client.hosts)
    assert client.chroot == ensemble.chroot
    for name, _ in client.hosts:
        name.encode('idna')  # as socket.getaddrinfo does, in kazoo's thread, which does not survive an error
