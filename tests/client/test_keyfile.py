"""The wrapped key: right password, right bytes; anything else is an error of ours."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import ClientError, ProfileDamaged, ProfileTooNew, WrongPassword
from client.storage.keyfile import STRENGTH, Strength, read_key, wrap
from tests.helpers.fuzz import fuzzing

WEAK = Strength(1, 8192)
KEY = bytes(range(32))


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
