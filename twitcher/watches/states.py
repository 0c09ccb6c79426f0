"""The states of a watch, and what follows each event in each of them, as one table.

Delays, retries, repetitions and stops follow this table only, and the manual's table is
printed from it. A state is about what is not due yet. What is due waits for a run in
progress, a lock or a slot, depending on the run mode: see watch.py.
"""

from __future__ import annotations

from enum import Enum
from typing import Dict, Tuple


class State(Enum):
    """What a watch waits for, if anything."""

    IDLE = 'Nothing is delayed; a run may be in progress.'
    DELAYED = 'An update waits for settle or splay.'
    RETRYING = 'A run has failed, and the next attempt waits for its delay.'
    REPEATING = 'The last run has ended, and the next one waits for repeat.'
    STOPPED = 'A run has failed, and on_failure says STOP.'


class Trigger(Enum):
    """What happens to a watch."""

    UPDATE = 'an update, or the load'
    OPEN = 'the delay is over'
    OVER = 'a run ends, and nothing follows'
    REPEAT = 'a run ends, and there is repeat'
    RETRY = 'a run fails, and RETRY has attempts left'
    STOP = 'a run fails, and STOP follows'
    DELETION = 'a deletion, without run_on_delete'


class Action(Enum):
    """What is done about it."""

    NOTHING = 'nothing'
    DELAY = 'settle begins, then splay'
    JOIN = 'the run gets these contents; settle, unless it is over, begins anew'
    START_ANEW = 'the delay is given up; settle begins, then splay'
    PASS = 'the run is due'
    BACK_OFF = 'the delay of the next attempt begins'
    REPEAT_LATER = 'repeat begins'
    REPEAT = 'splay begins'
    FORGET = 'repeat is given up'
    STOP = 'nothing that is pending runs'
    REMEMBER = 'it runs when the watch has been changed'


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
