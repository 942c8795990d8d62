"""Every way to fail has a cause and a repair, in sentences."""

from __future__ import annotations

from client.doctor.cause import CAUSES, cause_of
from client.rooms.notices import code_of
from e2ee import errors as e2ee_errors
from protocol.log import Kind


def test_every_failure_has_a_cause_and_a_repair() -> None:
    kinds = [Kind.MESSAGE, Kind.COMMIT, Kind.PROPOSAL, Kind.JOIN_REQUEST, "hologram"]
    errors = [e2ee_errors.E2eeError]
    for error in errors:
        errors += error.__subclasses__()
    seen = {code_of(error("x")) for error in errors} | set(CAUSES) | {"refused"}
    for code in seen:
        for kind in kinds:
            cause = cause_of(code, kind)
            for text in (cause.text, cause.repair_text):
                said = text.format(who="alice@a.example", code=code)
                assert said[0].isupper() or said.startswith("alice")
                assert said.endswith(".")
    assert cause_of("bad_padding", Kind.MESSAGE).repair == "ask_resend"
    assert cause_of("generation_used", Kind.COMMIT).repair == "rejoin"
    assert cause_of("stale_epoch", Kind.PROPOSAL).repair == "none"
