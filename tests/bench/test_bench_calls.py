"""The measurements of calls run, and print what they say. No time is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.calls.__main__ import PARTS
from bench.calls.report import Skip, middle, need_library, need_programs, result, share

np = pytest.importorskip("numpy", reason="the extra `calls` is not installed")
pytest.importorskip("aiortc", reason="the extra `calls` is not installed")

ROOT = Path(__file__).parents[2]
RATE = 48_000
LINUX = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are read from /proc"
)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.calls", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


@LINUX
def test_a_part_prints_one_array_of_figures() -> None:
    done = bench("servers", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [entry["name"] for entry in results] == [
        "offer_no_servers",
        "offer_dead_servers",
        "connected_no_servers",
        "connected_dead_servers",
    ]
    for entry in results:
        assert set(entry) == {"name", "value", "unit"}
        assert entry["unit"] == "ms"
        assert entry["value"] > 0


def test_an_unknown_part_is_refused() -> None:
    done = bench("servers", "smell")
    assert done.returncode == 2
    assert "smell" in done.stderr
    assert not done.stdout


@LINUX
def test_a_part_that_cannot_be_measured_is_left_out_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no program is there
    done = bench("ear")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert "ear: skipped: pulseaudio is not there" in done.stderr


def test_each_part_is_a_module() -> None:
    for name in PARTS:
        assert (ROOT / "bench" / "calls" / f"{name}.py").exists()


def test_what_is_missing_says_how_to_get_it() -> None:
    with pytest.raises(Skip, match="apt install no-such-program"):
        need_programs("no-such-program")
    with pytest.raises(Skip, match="somehow"):
        need_library("no_such_library", "somehow")


def test_medians_and_shares() -> None:
    assert middle("m", [5, 1, 3], "ms") == {"name": "m", "value": 3.0, "unit": "ms"}
    assert result("r", 1 / 3, "s")["value"] == 0.3333
    assert share([float(n) for n in range(100)], 0.95) == 95
    with pytest.raises(RuntimeError, match="no call"):
        middle("m", [], "ms")


def test_the_first_sample_of_a_tone_is_found_among_other_sound() -> None:
    from bench.calls.sound import first_tone

    at = np.arange(RATE) / RATE
    sound = 3000 * np.sin(2 * np.pi * 440 * at)
    assert first_tone(sound.astype(np.int16), 1500, 0) is None
    sound[RATE // 2 :] += 3000 * np.sin(2 * np.pi * 1500 * at[RATE // 2 :])
    found = first_tone(sound.astype(np.int16), 1500, RATE // 10)
    assert found is not None
    assert abs(found - RATE // 2) < RATE * 0.012


def test_where_a_piece_comes_from_is_found() -> None:
    from bench.calls.sound import lag

    sent = np.random.default_rng(1).normal(0, 3000, RATE).astype(np.int16)
    place, alike = lag(sent, sent[7000:17000])
    assert place == 7000
    assert alike > 0.99
