"""Resolves uid and gid, by name or number, to one Account, or fails. Never falls back
to another user.

The user database is read here, when a config is loaded, and nowhere else, so that a
directory service that hangs cannot hold up a run.
"""

from __future__ import annotations

import grp
import os
import pwd
from typing import Dict, Optional, Sequence, Tuple, Union

from twitcher.errors import SpecError

UserOrGroup = Union[str, int, None]
"""The value of uid or gid in a file."""

# uid_t and gid_t have 32 bits, and setreuid(2) takes (uid_t)-1 for "leave it
# unchanged".
_HIGHEST_ID = 2 ** 32 - 2


class Account:
    """A user with its primary and supplementary groups, as numbers, and the values for
    its environment.

    `asked` has the uid and gid that the file gives. Accounts are equal if these are,
    because their meaning on this machine can change without an edit.
    """

    __slots__ = ('uid', 'gid', 'groups', 'name', 'home', 'shell', 'asked')

    def __init__(self, uid: int, gid: int, groups: Tuple[int, ...], name: str, home: str, shell: str,
                 asked: Tuple[UserOrGroup, UserOrGroup]) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.name = name
        self.home = home
        self.shell = shell
        self.asked = asked

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and self.asked == other.asked

    def __hash__(self) -> int:
        return hash(self.asked)

    def __repr__(self) -> str:
        return f'Account(uid={self.asked[0]!r}, gid={self.asked[1]!r})'

    def environment(self) -> Dict[str, str]:
        """The variables that login(1) would set for this user."""
        return {'HOME': self.home, 'USER': self.name, 'LOGNAME': self.name, 'SHELL': self.shell}

    def is_in_force(self) -> bool:
        """Whether this process already runs as the account, and not as root, so that
        nothing has to change.

        It makes no difference whether the primary group is a supplementary group too.
        """
        return (self.uid != 0 and os.getresuid() == (self.uid,) * 3 and os.getresgid() == (self.gid,) * 3
                and {self.gid, *self.groups} == {self.gid, *os.getgroups()})


def own_account() -> Account:
    """The account that the daemon itself runs under."""
    entry = _user_entry(os.geteuid())
    return _account(os.geteuid(), os.getegid(), tuple(os.getgroups()), entry, (None, None))


def find_account(uid: UserOrGroup, gid: UserOrGroup) -> Optional[Account]:
    """The account for the `uid` and `gid` of RegisterWatch: names, numbers, strings of
    digits, or None. Returns None if both are None.

    `uid` alone implies that user's primary group; the supplementary groups are always
    that user's. `gid` alone keeps the daemon's user and drops every other group. Raises
    SpecError if one does not exist or cannot be honoured.
    """
    if uid is None and gid is None:
        return None
    number = os.geteuid() if uid is None else _number('uid', uid)
    entry = _user_entry(number)
    group = _group_of(uid, gid, entry)
    if uid is None or entry is None:
        groups: Tuple[int, ...] = (group,)
    else:
        groups = tuple(os.getgrouplist(entry.pw_name, group))
    if os.geteuid() != 0 and (number, group) != (os.geteuid(), os.getegid()):
        raise SpecError(f'uid={uid!r}, gid={gid!r}: only root may run actions as somebody else; twitcher runs as uid '
                        f'{os.geteuid()}, gid {os.getegid()}')
    account = _account(number, group, groups, entry, (_as_number(uid), _as_number(gid)))
    if os.geteuid() != 0 and not account.is_in_force():
        raise SpecError(f'uid={uid!r}, gid={gid!r}: only root may change the supplementary groups, which would be '
                        f'{_listed(groups)}; twitcher has {_listed(os.getgroups())}')
    return account


def _group_of(uid: UserOrGroup, gid: UserOrGroup, entry: Optional[pwd.struct_passwd]) -> int:
    if gid is not None:
        return _number('gid', gid)
    if entry is None:
        raise SpecError(f'uid={uid!r}: no such user, so its primary group is not known; allowed: a user of this '
                        'machine, or a number together with gid')
    return entry.pw_gid


def _account(uid: int, gid: int, groups: Tuple[int, ...], entry: Optional[pwd.struct_passwd],
             asked: Tuple[UserOrGroup, UserOrGroup]) -> Account:
    if entry is None:
        return Account(uid, gid, groups, str(uid), '/', '/bin/sh', asked)
    return Account(uid, gid, groups, entry.pw_name, entry.pw_dir or '/', entry.pw_shell or '/bin/sh', asked)


def _listed(groups: Sequence[int]) -> str:
    return ', '.join(map(str, sorted(groups))) or 'none'


def _as_number(value: UserOrGroup) -> UserOrGroup:
    """The same number for a string of digits, so that the two compare equal."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _number(argument: str, value: UserOrGroup) -> int:
    if isinstance(value, str) and not value.isdecimal():
        try:
            return pwd.getpwnam(value).pw_uid if argument == 'uid' else grp.getgrnam(value).gr_gid
        except (KeyError, ValueError):
            kind = 'user' if argument == 'uid' else 'group'
            raise SpecError(f'{argument}={value!r}: no such {kind} on this machine; allowed: a name or a number') from None
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise SpecError(f'{argument}={value!r}: allowed: a name, a number or a string of digits')
    if isinstance(value, str) and len(value) > len(str(_HIGHEST_ID)) or not 0 <= int(value) <= _HIGHEST_ID:
        raise SpecError(f'{argument}={value!r}: allowed: a number from 0 to {_HIGHEST_ID}')
    return int(value)


def _user_entry(uid: int) -> Optional[pwd.struct_passwd]:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None
