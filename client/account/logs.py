"""Account logs, verified once: reading one is pure, so what was read is remembered.

Two signatures stand in most entries, so a log of 1,000 takes 0.3 s, and anybody can
have one that long. What continues a log that was read costs only what is new.
"""

import threading
from collections import OrderedDict

from protocol.account_log import AccountState, read_account_log
from protocol.address import AccountAddress
from protocol.log import GENESIS, chain

__all__ = ["read_log"]

KEPT = 200
"""Logs that are remembered: 30 KB each at most, with 32 devices."""

_states: OrderedDict[tuple[str, bytes], AccountState] = OrderedDict()
_lock = threading.Lock()


def read_log(account: AccountAddress, entries: list[bytes]) -> AccountState:
    """What `read_account_log` gives for a whole log; call it off the event loop.

    The hash over a log stands for all of its entries, so a state that was read up to
    some entry is the state there.

    Raises:
        IdentityError: it does not hold.
    """
    name, heads = str(account), [GENESIS]
    for entry in entries:
        heads.append(chain(heads[-1], entry))
    state = None
    with _lock:
        for count in range(len(entries), 0, -1):
            state = _states.pop((name, heads[count]), None)
            if state is not None:
                _states[name, state.head] = state
                break
    known = 0 if state is None else state.seq
    if state is not None and known == len(entries):
        return state
    after = read_account_log(account, entries[known:], after=state)
    with _lock:
        if state is not None:
            _states.pop((name, state.head), None)
        _states[name, after.head] = after
        while len(_states) > KEPT:
            _states.popitem(last=False)
    return after
