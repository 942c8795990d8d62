"""A call as a line of the timeline: what became of it, for who looks at the room."""

from client.calls.record import Fact, account_of

__all__ = ["MISSED", "line_of"]

MISSED = "call_missed"
"""The code of a call that came and was not taken; it counts as unread."""

_OWN = {
    "unanswered": "{call} to {who}: nobody answered.",
    "declined": "{call} to {who}: it was declined.",
    "busy": "{call} to {who}, who was in another call.",
    "cancelled": "{call} to {who}, which you ended before it was answered.",
    "failed": "{call} to {who}: it failed.",
}
"""Calls of ours that nobody answered."""

_ANSWERED = {
    "hung_up": ("ended", "{call} with {who}{length}."),
    "lost": ("lost", "{call} with {who}{length}: then the way there was lost."),
    "refused": ("refused", "{call} with {who} was ended: a key there was not its own."),
    "failed": ("failed", "{call} with {who}{length}: then something failed."),
}


def line_of(fact: Fact, account: str) -> tuple[str, str]:
    """The stable code and the sentence for a call that is over.

    Args:
        fact: what the log says of it.
        account: the one that looks.
    """
    own = account_of(fact.caller) == account
    others = [who for who in (account_of(fact.caller), *fact.invited) if who != account]
    who = " and ".join(others)
    call = "Video call" if fact.video else "Call"
    if fact.answered:
        word, text = _ANSWERED.get(fact.over, _ANSWERED["hung_up"])
        length = f", {_length(fact.seconds)}" if fact.seconds else ""
        return f"call_{word}", text.format(call=call, who=who, length=length)
    if own:
        word = fact.over if fact.over in _OWN else "cancelled"
        return f"call_{word}", _OWN[word].format(call=call, who=who)
    if account in fact.declined:
        return "call_declined", f"{call} from {who}, which you declined."
    return MISSED, f"Missed {call.lower()} from {who}."


def _length(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"
