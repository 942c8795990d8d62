"""A call as the screens see it."""

from collections.abc import Callable, Mapping

from client.calls.links import Link
from client.calls.model import Call, CallLeg, CallState
from client.calls.ongoing import Ongoing, Stage
from client.calls.record import account_of
from client.model import Trust

__all__ = ["view_of"]


def view_of(
    call: Ongoing,
    me: str,
    trust: Mapping[str, Trust],
    trouble: Mapping[str, str],
    wall: Callable[[int], int],
) -> Call:
    """What `call` is now.

    Args:
        me: our account.
        trust: what is known of devices' owners, by device.
        trouble: what is missing here, by kind.
        wall: turns the machine's time into milliseconds since 1970.
    """
    return Call(
        id=call.shown,
        room=call.room,
        own=call.own,
        account=me if call.own else account_of(call.caller),
        video=call.video,
        state=_state(call),
        began=call.began or wall(call.since),
        answered=0 if call.connected_at is None else wall(call.connected_at),
        legs=tuple(_leg(link, trust) for device, link in call.links.items() if device),
        muted=call.muted,
        held=call.held,
        camera=call.camera,
        end=call.end,
        detail=call.detail,
        trouble=() if call.end else tuple(trouble.values()),
    )


def _state(call: Ongoing) -> CallState:
    match call.stage:
        case Stage.ASKING:
            return "ringing" if call.rung else "calling"
        case Stage.INCOMING:
            return "incoming"
        case Stage.ENDED:
            return "ended"
    if any(link.connected for link in call.links.values()):
        return "running"
    return "connecting" if call.connected_at is None else "reconnecting"


def _leg(link: Link, trust: Mapping[str, Trust]) -> CallLeg:
    account = account_of(link.device)
    said = link.says
    return CallLeg(
        link.device,
        account,
        trust.get(link.device, Trust.UNVERIFIED),
        link.connected,
        muted=said is not None and said.muted,
        held=said is not None and said.held,
        # Over a leg it is one or the other; for who looks, a screen is a picture too.
        camera=said is not None and (said.camera or said.screen),
        screen=said is not None and said.screen,
        quality=link.quality,
    )
