"""The states of a watch: what follows which event in each of them, as one table.

Everything that decides about a delay, a retry, a repetition or a stop stands here, and
the manual's table is made from it. A state is about what is not due yet. What is due
waits for a run in progress, a lock or a slot, as the run mode says: see watch.py.
"""

from __future__ import annotations

from enum import Enum
from typing import Dict, Tuple


class State(Enum):
    """What a watch waits for, if anything."""

    IDLE = 'nothing is delayed'
    DELAYED = 'an update waits for settle and splay'
    RETRYING = 'a run has failed, and the next attempt waits for its delay'
    REPEATING = 'the last run has ended, and the next one waits for repeat'
    STOPPED = 'a run has failed, and on_failure says STOP'


class Trigger(Enum):
    """What happens to a watch."""

    UPDATE = 'an update, or the load'
    OPEN = 'the delay is over'
    OVER = 'a run has ended, and nothing follows from it'
    REPEAT = 'a run has ended, and repeat follows'
    RETRY = 'a run has failed, and is to be retried'
    STOP = 'a run has failed for the last time, and STOP follows'
    DELETION = 'the znode is deleted, without run_on_delete'


class Action(Enum):
    """What is done about it."""

    NOTHING = 'nothing'
    DELAY = 'delays it for settle and splay, then it is due'
    JOIN = 'takes its contents; settle begins anew, splay does not'
    START_ANEW = 'gives up that delay, and delays the update for settle and splay'
    PASS = 'it is due'
    BACK_OFF = 'delays the next attempt'
    REPEAT_LATER = 'delays the next run for repeat'
    REPEAT = 'delays it for splay, then it is due'
    FORGET = 'gives up repeat'
    STOP = 'starts nothing that is pending'
    REMEMBER = 'remembers that there was one'


TABLE: Dict[State, Dict[Trigger, Tuple[Action, State]]] = {
    State.IDLE: {
        Trigger.UPDATE: (Action.DELAY, State.DELAYED),
        Trigger.OPEN: (Action.NOTHING, State.IDLE),
        Trigger.OVER: (Action.NOTHING, State.IDLE),
        Trigger.REPEAT: (Action.REPEAT_LATER, State.REPEATING),
        Trigger.RETRY: (Action.BACK_OFF, State.RETRYING),
        Trigger.STOP: (Action.STOP, State.STOPPED),
        Trigger.DELETION: (Action.NOTHING, State.IDLE),
    },
    State.DELAYED: {
        Trigger.UPDATE: (Action.JOIN, State.DELAYED),
        Trigger.OPEN: (Action.PASS, State.IDLE),
        Trigger.OVER: (Action.NOTHING, State.DELAYED),
        Trigger.REPEAT: (Action.NOTHING, State.DELAYED),
        Trigger.RETRY: (Action.NOTHING, State.DELAYED),
        Trigger.STOP: (Action.STOP, State.STOPPED),
        Trigger.DELETION: (Action.NOTHING, State.DELAYED),
    },
    State.RETRYING: {
        Trigger.UPDATE: (Action.START_ANEW, State.DELAYED),
        Trigger.OPEN: (Action.PASS, State.IDLE),
        Trigger.OVER: (Action.NOTHING, State.RETRYING),
        Trigger.REPEAT: (Action.NOTHING, State.RETRYING),
        Trigger.RETRY: (Action.NOTHING, State.RETRYING),
        Trigger.STOP: (Action.STOP, State.STOPPED),
        Trigger.DELETION: (Action.NOTHING, State.RETRYING),
    },
    State.REPEATING: {
        Trigger.UPDATE: (Action.START_ANEW, State.DELAYED),
        Trigger.OPEN: (Action.REPEAT, State.DELAYED),
        Trigger.OVER: (Action.NOTHING, State.REPEATING),
        Trigger.REPEAT: (Action.NOTHING, State.REPEATING),
        Trigger.RETRY: (Action.BACK_OFF, State.RETRYING),
        Trigger.STOP: (Action.STOP, State.STOPPED),
        Trigger.DELETION: (Action.FORGET, State.IDLE),
    },
    State.STOPPED: {
        Trigger.UPDATE: (Action.REMEMBER, State.STOPPED),
        Trigger.OPEN: (Action.NOTHING, State.STOPPED),
        Trigger.OVER: (Action.NOTHING, State.STOPPED),
        Trigger.REPEAT: (Action.NOTHING, State.STOPPED),
        Trigger.RETRY: (Action.NOTHING, State.STOPPED),
        Trigger.STOP: (Action.NOTHING, State.STOPPED),
        Trigger.DELETION: (Action.NOTHING, State.STOPPED),
    },
}
