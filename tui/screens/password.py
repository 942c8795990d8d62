"""Another password for this device."""

from tui.backend import ChatClient
from tui.screens.dialogs import FormDialog
from tui.screens.entry import PASSWORD_LEAST, check_new_password
from tui.screens.form import Field
from tui.text import say

__all__ = ["password_dialog"]


def password_dialog(client: ChatClient, log: object) -> FormDialog:
    """The old one, and the new one twice."""

    def check(values: dict[str, str]) -> dict[str, str]:
        old = {} if values["old"] else {"old": say("error.password.empty")}
        return old | check_new_password(values)

    async def perform(values: dict[str, str]) -> None:
        await client.change_password(values["old"], values["password"])

    least = say("field.password.hint", least=PASSWORD_LEAST)
    return FormDialog(
        say("password.title"),
        Field("old", say("password.old"), password=True),
        Field("password", say("password.new"), least, password=True),
        Field("repeat", say("field.repeat"), say("field.repeat.hint"), password=True),
        text=say("password.text"),
        go=say("password.go"),
        busy=lambda values: say("password.busy"),
        check=check,
        perform=perform,
        log=log,
    )
