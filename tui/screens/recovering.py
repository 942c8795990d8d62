"""Every device is lost: the account again, from the 24 words alone."""

import socket

from protocol.address import parse_account
from tui.screens.entry import PASSWORD_LEAST, AccountForm, check_new_password
from tui.screens.form import Field, FormBox
from tui.text import say
from tui.widgets.phrase import PhraseField, phrase_errors

__all__ = ["RecoverScreen"]


class RecoverScreen(AccountForm):
    """Address, words, a new password."""

    def __init__(self) -> None:
        least = say("field.password.hint", least=PASSWORD_LEAST)
        super().__init__(
            FormBox(
                say("recover.title"),
                Field("address", say("field.address"), say("field.address.hint")),
                PhraseField(),
                Field("password", say("recover.password"), least, password=True),
                Field(
                    "repeat",
                    say("field.repeat"),
                    say("field.repeat.hint"),
                    password=True,
                ),
                go=say("recover.go"),
                back=say("back"),
                text=say("recover.text"),
            )
        )

    def check(self, values: dict[str, str]) -> dict[str, str]:
        """Everything that can be known here."""
        errors = {"address": self.check_address(values["address"])}
        return errors | phrase_errors(values["phrase"]) | check_new_password(values)

    def doing(self, values: dict[str, str]) -> str:
        """The words are proved to the node; history comes later, in the chat."""
        node = parse_account(values["address"].strip()).node
        return say("recover.busy", node=node)

    async def perform(self, values: dict[str, str]) -> None:
        """Recover and begin; the history comes back in the background."""
        backend = await self.app.backend()
        client = await backend.recover(
            self.app.profile,
            values["address"].strip(),
            phrase=" ".join(values["phrase"].lower().split()),
            password=values["password"],
            device_name=socket.gethostname(),
        )
        await self.app.begin(client)
