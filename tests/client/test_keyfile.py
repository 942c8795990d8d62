"""The wrapped key: right password, right bytes; anything else is an error of ours."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError, KeyringLocked

from client.errors import (
    ClientError,
    KeyringFailed,
    ProfileDamaged,
    ProfileTooNew,
    WrongPassword,
)
from client.model import Profile
from client.storage import system_keyring
from client.storage.keyfile import (
    STRENGTH,
    Strength,
    change_password,
    read_key,
    use_keyring,
    wrap,
)
from tests.helpers.fuzz import fuzzing

WEAK = Strength(1, 8192)
KEY = bytes(range(32))


class FakeKeyring(KeyringBackend):
    """A keyring in memory, that can be locked, refuse, or hang."""

    priority = 1

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.failure: Exception | None = None
        self.hang: threading.Event | None = None

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        del self.entries[service, username]

    def _check(self) -> None:
        if self.hang is not None:
            self.hang.wait()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKeyring]:
    """The system's keyring for one test."""
    before, fake = keyring.get_keyring(), FakeKeyring()
    monkeypatch.setattr(system_keyring, "TRUSTED", (__name__,))
    keyring.set_keyring(fake)
    yield fake
    keyring.set_keyring(before)


def test_the_key_comes_back_with_the_password_alone(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    wrap(path, KEY, "pässword", WEAK)
    assert read_key(path, "pässword") == KEY
    for wrong in ("", "password", "pässword "):
        with pytest.raises(WrongPassword):
            read_key(path, wrong)
    assert KEY.hex() not in path.read_text() and KEY not in path.read_bytes()


def test_a_guess_costs_what_it_should() -> None:
    assert STRENGTH.passes >= 3 and STRENGTH.memory >= 256 * 1024 * 1024


def test_weaker_parameters_cannot_be_slipped_in(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    wrap(path, KEY, "password", Strength(2, 16384))
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "passes": 1}))
    with pytest.raises(WrongPassword):
        read_key(path, "password")


def test_a_newer_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    wrap(path, KEY, "password", WEAK)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "version": 2}))
    with pytest.raises(ProfileTooNew, match="update Telex"):
        read_key(path, "password")


@pytest.mark.fuzz
def test_any_file_is_a_key_or_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    wrap(path, KEY, "password", WEAK)
    good = json.loads(path.read_text())
    values = st.one_of(
        st.none(), st.integers(), st.text(max_size=20), st.floats(), st.booleans()
    )

    @fuzzing
    @given(
        st.one_of(
            st.binary(max_size=300),
            st.dictionaries(st.sampled_from(sorted(good)), values).map(
                lambda changes: json.dumps({**good, **changes}).encode()
            ),
        )
    )
    def try_file(data: bytes) -> None:
        path.write_bytes(data)
        try:
            assert read_key(path, "password") == KEY
        except ClientError as error:
            assert str(error)
            assert isinstance(error, ProfileDamaged | ProfileTooNew | WrongPassword)

    try_file()


@pytest.mark.fuzz
def test_any_keyring_part_is_used_or_an_error_of_ours(
    tmp_path: Path, ring: FakeKeyring
) -> None:
    path = tmp_path / "key.json"
    wrap(path, KEY, "password", WEAK)
    use_keyring(path, KEY, on=True)
    good = json.loads(path.read_text())
    values = st.one_of(st.none(), st.integers(), st.text(max_size=50), st.booleans())

    @fuzzing
    @given(
        st.one_of(
            values,
            st.dictionaries(st.sampled_from(["name", "nonce", "key"]), values).map(
                lambda changes: {**good["keyring"], **changes}
            ),
        )
    )
    def try_part(part: object) -> None:
        path.write_text(json.dumps({**good, "keyring": part}))
        assert read_key(path, "password") == KEY
        try:
            assert read_key(path, None) == KEY
        except ClientError as error:
            assert isinstance(error, ProfileDamaged | KeyringFailed)

    try_part()


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 4000,
        b'{"telex":"key","version":1,"passes":Infinity,"memory":8192,'
        b'"salt":"","nonce":"","key":""}',
        b'{"telex":"key","version":1,"passes":1.5,"memory":8192,'
        b'"salt":"","nonce":"","key":""}',
    ],
)
def test_numbers_that_are_none_and_deep_files_are_damage(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(data)
    with pytest.raises(ProfileDamaged, match="damaged"):
        read_key(path, "password")


# --- changing the password ------------------------------------------------------


def test_a_changed_password_opens_and_the_old_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    wrap(path, KEY, "old password", WEAK)
    before = path.read_bytes()
    with pytest.raises(WrongPassword):
        change_password(path, "wrong", "new password", WEAK)
    assert path.read_bytes() == before
    change_password(path, "old password", "new password", Strength(2, 16384))
    assert read_key(path, "new password") == KEY
    with pytest.raises(WrongPassword):
        read_key(path, "old password")


# --- the system's keyring -------------------------------------------------------


def test_the_keyring_opens_it_and_so_does_the_password(
    tmp_path: Path, ring: FakeKeyring
) -> None:
    path, profile = tmp_path / "key.json", Profile(tmp_path)
    wrap(path, KEY, "password", WEAK)
    assert not profile.by_keyring()
    with pytest.raises(KeyringFailed, match="opens by its password"):
        read_key(path, None)
    use_keyring(path, KEY, on=True)
    assert profile.by_keyring() and len(ring.entries) == 1
    assert read_key(path, None) == KEY == read_key(path, "password")
    (secret,) = ring.entries.values()
    assert secret not in path.read_text() and KEY.hex() not in secret
    change_password(path, None, "forgotten the old", WEAK)
    assert read_key(path, None) == KEY == read_key(path, "forgotten the old")
    use_keyring(path, KEY, on=True)
    assert len(ring.entries) == 1 and read_key(path, None) == KEY
    use_keyring(path, KEY, on=False)
    assert not ring.entries and not profile.by_keyring()
    assert read_key(path, "forgotten the old") == KEY


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (KeyringLocked("secret detail"), "locked.*password"),
        (KeyringError("secret detail"), "refused.*password"),
        (RuntimeError("secret detail"), "refused.*password"),
    ],
)
def test_a_keyring_that_fails_is_a_sentence_and_the_password_opens(
    tmp_path: Path, ring: FakeKeyring, failure: Exception, words: str
) -> None:
    path = tmp_path / "key.json"
    wrap(path, KEY, "password", WEAK)
    use_keyring(path, KEY, on=True)
    before, ring.failure = path.read_bytes(), failure
    with pytest.raises(KeyringFailed, match=words) as error:
        read_key(path, None)
    assert "secret detail" not in str(error.value) and error.value.__cause__ is None
    with pytest.raises(KeyringFailed):
        use_keyring(path, KEY, on=True)
    assert path.read_bytes() == before and read_key(path, "password") == KEY


def test_a_keyring_that_hangs_or_forgets_is_a_sentence(
    tmp_path: Path, ring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.json"
    wrap(path, KEY, "password", WEAK)
    use_keyring(path, KEY, on=True)
    monkeypatch.setattr(system_keyring, "PATIENCE", 0.05)
    ring.hang = threading.Event()
    with pytest.raises(KeyringFailed, match="does not answer"):
        read_key(path, None)
    ring.hang.set()
    ring.hang = None
    (entry,) = ring.entries
    ring.entries[entry] = "bm90IDMyIGJ5dGVz"
    with pytest.raises(KeyringFailed, match="does not have"):
        read_key(path, None)
    ring.entries.clear()
    with pytest.raises(KeyringFailed, match="does not have"):
        read_key(path, None)


def test_a_keyring_that_writes_plain_files_is_none(
    tmp_path: Path, ring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.json"
    wrap(path, KEY, "password", WEAK)
    monkeypatch.setattr(system_keyring, "TRUSTED", ("keyring.backends.macOS",))
    with pytest.raises(KeyringFailed, match="no keyring"):
        use_keyring(path, KEY, on=True)
    assert not ring.entries and read_key(path, "password") == KEY
