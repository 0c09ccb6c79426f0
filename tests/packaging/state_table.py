"""Prints the manual's table of the states of a watch.

`python -m tests.packaging.state_table` writes what stands in twitcher.twc(5) between START and END.
"""

from __future__ import annotations

from twitcher.watches.states import TABLE, Action

START = r'.\" Printed by python -m tests.packaging.state_table:'
END = r'.\" End of the states.'


def table() -> str:
    """The table, as mdoc(7). What does not matter to a state is left out."""
    lines = []
    for state, row in TABLE.items():
        lines += [f'.It Dv {state.name}', state.value]
        for trigger, (action, following) in row.items():
            if action is not Action.NOTHING:
                then = '' if following is state else f' ({following.name})'
                lines += ['.br', f'{trigger.value[0].upper()}{trigger.value[1:]}: {action.value}{then}.']
    return '\n'.join(lines)


if __name__ == '__main__':
    print(table())
