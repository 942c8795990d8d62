"""The gate: what somebody does in another's name uses up nothing of the other's."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.config import Listen
from protocol.errors import TooMany
from protocol.wire import Rooms
from tests.node.phone import Phone, phone
from tests.node.server import make_settings, running

PATH = "/telex/v1/rooms"


async def ask(device: Phone, address: str, **spoiled: Any) -> int:
    headers = device.headers("GET", PATH, **spoiled) | {"X-Forwarded-For": address}
    return (await device.send("GET", PATH, headers=headers))[0]


async def test_who_cannot_sign_empties_no_bucket_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.api.patience.PENALTY", 0.0)
    settings = make_settings(tmp_path)
    settings = replace(
        settings,
        listen=Listen(
            host="127.0.0.1", port=settings.listen.port, proxies=["127.0.0.1"]
        ),
        limits=replace(settings.limits, requests_per_second=0.1, requests_burst=10),
    )
    async with running(settings) as node, phone(node, "alice") as alice:
        await alice.register()
        lie = {"private_key": os.urandom(32)}
        answers = [await ask(alice, "192.0.2.66", **lie) for _ in range(30)]
        assert answers == [401] * 10 + [429] * 20
        assert [await ask(alice, "192.0.2.1") for _ in range(10)] == [200] * 10
        # Her own is one bucket, wherever she asks from.
        assert await ask(alice, "192.0.2.2") == 429
        with pytest.raises(TooMany) as caught:
            await alice.call("GET", PATH, None, Rooms)
        assert (caught.value.retry_after or 0) > 0
