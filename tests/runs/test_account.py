"""Who an action runs as, and what its environment says."""

from __future__ import annotations

import os
import subprocess
import uuid
from typing import Dict, Iterator, List, NamedTuple, Tuple

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import wait_for


class Member(NamedTuple):
    """A user with supplementary groups."""

    name: str
    uid: int
    gid: int
    supplementary: Tuple[int, ...]


def _administer(*words: str) -> None:
    """Call a program that changes the user database, which others may have locked."""
    def succeeds() -> bool:
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        assert result.returncode == 0 or 'lock' in result.stderr, result.stderr
        return result.returncode == 0

    wait_for(' '.join(words), succeeds)


def _id(*words: str) -> List[int]:
    return [int(word) for word in subprocess.run(['id', *words], capture_output=True, check=True).stdout.split()]


@pytest.fixture(scope='module')
def member() -> Iterator[Member]:
    """A user of this machine with a group of the same name and two supplementary ones."""
    name = f'tw{uuid.uuid4().hex[:8]}'
    undo: List[Tuple[str, str]] = []
    try:
        for group in (f'{name}a', f'{name}b'):
            _administer('groupadd', group)
            undo.append(('groupdel', group))
        _administer('useradd', '-U', '-G', f'{name}a,{name}b', '-M', '-d', f'/home/of/{name}', '-s', '/bin/dash', name)
        undo.append(('userdel', name))
        primary, *supplementary = _id('-G', name)
        yield Member(name, _id('-u', name)[0], primary, tuple(supplementary))
    finally:
        for words in reversed(undo):
            _administer(*words)


PRINT_IDS = '''
def print_ids():
    for line in open('/proc/self/status'):
        if line.startswith(('Uid', 'Gid', 'Groups')):
            print(*line.split())
'''


def _expected(uid: int, gid: int, *groups: int) -> List[str]:
    """What print_ids prints: real, effective, saved and filesystem ids, and the supplementary groups."""
    return ['Uid:' + f' {uid}' * 4, 'Gid:' + f' {gid}' * 4, ' '.join(['Groups:', *map(str, sorted({*groups}))])]


def test_an_action_has_the_user_the_group_and_the_supplementary_groups_that_were_asked_for(
        twitcher: Twitcher, ensemble: Ensemble, member: Member) -> None:
    own = [os.geteuid(), os.getegid(), *os.getgroups()]
    nobody = [65534, 65534, 65534]
    of_member = [member.uid, member.gid, member.gid, *member.supplementary]
    cases = {
        '': own,
        "uid='nobody'": nobody,
        'uid=65534': nobody,
        "uid='65534'": nobody,
        "uid='nobody', gid='nogroup'": nobody,
        "uid='65534', gid=65534": nobody,
        "uid='nobody', gid=0": [65534, 0, 0],
        "uid=54321, gid=54322": [54321, 54322, 54322],
        "uid='54321', gid='nogroup'": [54321, 65534, 65534],
        "gid='nogroup'": [os.geteuid(), 65534, 65534],
        'gid=65534': [os.geteuid(), 65534, 65534],
        "gid='54322'": [os.geteuid(), 54322, 54322],
        "uid='root'": [0, *_id('-g', 'root'), *_id('-G', 'root')],
        f"uid='{member.name}'": of_member,
        f'uid={member.uid}': of_member,
        f"uid='{member.uid}'": of_member,
        f"uid='{member.name}', gid='nogroup'": [member.uid, 65534, 65534, *member.supplementary],
        f"uid='{member.name}', gid='{member.name}a'": [member.uid, member.supplementary[0], *member.supplementary],
        f'gid={member.gid}': [os.geteuid(), member.gid, member.gid],
    }
    text = PRINT_IDS + 'command = "grep -E \'^(Uid|Gid|Groups)\' /proc/self/status | xargs -L 1 echo"\n'
    for number, who in enumerate(cases):
        text += f"RegisterWatch('/u', print_ids, description='function {number}', {who})\n"
        text += f"RegisterWatch('/u', Exec(command), description='command {number}', {who})\n"
    twitcher.config('u.twc', text)
    ensemble.put('/u', '')
    twitcher.start()
    found = {who: [twitcher.wait_printed(f'{kind} {number}', 3) for kind in ('function', 'command')]
             for number, who in enumerate(cases)}
    assert found == {who: [_expected(*ids)] * 2 for who, ids in cases.items()}


def test_nobody_in_nogroup_has_that_group_alone_and_cannot_become_root_again(
        twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('u.twc', '''
        import os
        def become_root():
            for change in (os.setuid, os.setgid, lambda number: os.setgroups([number])):
                try:
                    change(0)
                except PermissionError:
                    print('not permitted')
            print(os.getresuid(), os.getresgid(), os.getgroups())
        RegisterWatch('/u', Exec('id -G'), uid='nobody', gid='nogroup', description='command')
        RegisterWatch('/u', become_root, uid='nobody', gid='nogroup', description='function')
    ''')
    ensemble.put('/u', '')
    twitcher.start()
    assert twitcher.wait_printed('command', 1) == ['65534']
    ids = (65534, 65534, 65534)
    assert twitcher.wait_printed('function', 4) == 3 * ['not permitted'] + [f'{ids} {ids} [65534]']


def test_home_user_logname_and_shell_are_those_of_the_user_of_the_action(
        twitcher: Twitcher, ensemble: Ensemble, member: Member) -> None:
    root = '/root root root /bin/bash'
    nobody = '/nonexistent nobody nobody /usr/sbin/nologin'
    cases = {
        '': root, "uid='root'": root, "gid='nogroup'": root, "uid='nobody'": nobody, "uid='65534', gid=0": nobody,
        f"uid='{member.name}'": f'/home/of/{member.name} {member.name} {member.name} /bin/dash',
        'uid=54321, gid=54321': '/ 54321 54321 /bin/sh',
    }
    text = "import os\nnames = ['HOME', 'USER', 'LOGNAME', 'SHELL']\n"
    for number, who in enumerate(cases):
        text += f"RegisterWatch('/u', Exec('echo $HOME $USER $LOGNAME $SHELL'), description='command {number}', {who})\n"
        text += f"RegisterWatch('/u', lambda: print(*map(os.environ.get, names)), description='function {number}', {who})\n"
    twitcher.config('u.twc', text)
    ensemble.put('/u', '')
    twitcher.start(environment={'HOME': '/wrong', 'USER': 'wrong', 'LOGNAME': 'wrong', 'SHELL': 'wrong'})
    found = {who: [twitcher.wait_printed(f'{kind} {number}', 1) for kind in ('function', 'command')]
             for number, who in enumerate(cases)}
    assert found == {who: [[line]] * 2 for who, line in cases.items()}


@pytest.mark.parametrize('kind', ['command', 'function'])
def test_the_environment_tells_what_has_happened_to_which_znode(twitcher: Twitcher, ensemble: Ensemble, kind: str) -> None:
    names = ['ZNODE', 'EVENT', 'VERSION', 'MZXID', 'DESCRIPTION']
    action = {'command': "Exec('echo " + ' '.join(f'$TWITCHER_{name}' for name in names) + "')",
              'function': f"lambda: print(*(os.environ['TWITCHER_' + name] for name in {names}))"}[kind]
    twitcher.config('e.twc', f'''
        import os
        RegisterWatch('/e', {action}, description='the data')
        RegisterWatch('/e', {action}, description='the children', watch_type=WATCH_CHILDREN)
        RegisterWatch('/e/é', {action})
    ''')
    client = ensemble.client
    client.create('/e', b'0')
    twitcher.start(environment={'TWITCHER_ZNODE': 'wrong', 'TWITCHER_EVENT': 'wrong'})
    data, children = [f"/e load 0 {client.get('/e')[1].mzxid} the data"], []
    children.append(f"/e load 0 {client.get('/e')[1].pzxid} the children")
    assert (twitcher.wait_printed('the data', 1), twitcher.wait_printed('the children', 1)) == (data, children)
    for version in (1, 2):
        client.set('/e', b'more')
        data.append(f"/e changed {version} {client.get('/e')[1].mzxid} the data")
        assert twitcher.wait_printed('the data', version + 1) == data
    client.create('/e/é')
    stat = client.get('/e')[1]
    children.append(f'/e children {stat.cversion} {stat.pzxid} the children')
    assert twitcher.wait_printed('the children', 2) == children
    assert twitcher.wait_printed('e.twc#3', 1) == [f"/e/é created 0 {client.get('/e/é')[1].mzxid} e.twc#3"]
    client.delete('/e/é')
    children.append(f"/e children 2 {client.get('/e')[1].pzxid} the children")
    assert twitcher.wait_printed('the children', 3) == children
    client.delete('/e')
    client.create('/e', b'again')
    stat = client.get('/e')[1]
    assert twitcher.wait_printed('the data', 4)[3] == f'/e created 0 {stat.mzxid} the data'
    assert twitcher.wait_printed('the children', 4)[3] == f'/e created 0 {stat.pzxid} the children'


def test_an_action_has_the_environment_of_the_daemon_but_not_what_a_service_manager_told_the_daemon_alone(
        twitcher: Twitcher, ensemble: Ensemble) -> None:
    private: Dict[str, str] = {
        'NOTIFY_SOCKET': '@never', 'WATCHDOG_USEC': '1000000', 'WATCHDOG_PID': '1', 'LISTEN_PID': '1', 'LISTEN_FDS': '1',
        'LISTEN_FDNAMES': 'x', 'JOURNAL_STREAM': '1:1', 'INVOCATION_ID': 'x'}
    twitcher.config('e.twc', '''
        import os, subprocess
        RegisterWatch('/e', Exec('env; echo the end'), description='command')
        RegisterWatch('/e', lambda: subprocess.call('env; echo the end', shell=True), description='function')
        RegisterWatch('/e', Exec(['sh', '-c', 'env; echo the end']), description='another user', uid='nobody')
    ''')
    ensemble.put('/e', '')
    twitcher.start(environment={**private, 'ORDINARY': 'passed on'})
    for description in ('command', 'function', 'another user'):
        assert twitcher.wait_ended(description) == ['exited 0']
        twitcher.wait_log(rf'{description}\[\d+\]: the end')
        lines = twitcher.printed(description)
        assert {'ORDINARY=passed on', 'TWITCHER_ZNODE=/e', 'TWITCHER_EVENT=load',
                f'TWITCHER_DESCRIPTION={description}'} <= set(lines)
        names = {line.partition('=')[0] for line in lines}
        assert 'PATH' in names
        assert not names & set(private)
