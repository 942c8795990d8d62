"""A call with a browser: headless Chromium with fake devices, on a minimal page."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiortc", reason="calls need: pip install 'telex[calls]'")

import msgspec
import numpy as np
from aiohttp import web

from tests.media.legs import ORANGE, Side, speech

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""

PAGE = """
<video id=v autoplay playsinline muted></video><audio id=a autoplay></audio>
<canvas id=c width=64 height=48></canvas>
<script>
const post = (path, value) =>
  fetch(path, {method: 'POST', body: JSON.stringify(value)}).then(r => r.text());
const sleep = ms => new Promise(done => setTimeout(done, ms));
async function call() {
  const mine = await navigator.mediaDevices.getUserMedia(
    {audio: true, video: {width: 320, height: 240}});
  const pc = new RTCPeerConnection();
  mine.getTracks().forEach(track => pc.addTrack(track, mine));
  pc.ontrack = e => {
    (e.track.kind == 'video' ? v : a).srcObject = new MediaStream([e.track]);
  };
  await pc.setLocalDescription();
  while (pc.iceGatheringState != 'complete') await sleep(20);
  const answer = await post('/offer', pc.localDescription.sdp);
  await pc.setRemoteDescription({type: 'answer', sdp: answer});
  for (;;) {
    await sleep(100);
    const stats = {};
    (await pc.getStats()).forEach(s => {
      if (s.type == 'inbound-rtp') stats[s.kind] = s;
    });
    const {audio, video} = stats;
    if (video && video.framesDecoded > 20 && audio.totalAudioEnergy > 0.001) {
      const pen = c.getContext('2d');
      pen.drawImage(v, 0, 0, 64, 48);
      const at = pen.getImageData(2, 44, 1, 1).data;
      return {colour: [...at.slice(0, 3)], lost: audio.packetsLost};
    }
  }
}
call().catch(e => ({error: String(e)})).then(result => post('/done', result));
</script>
"""


@asynccontextmanager
async def browser(url: str, folder: Path) -> AsyncIterator[None]:
    """Chromium at a page; killed with all its processes in the end."""
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--mute-audio",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--disable-features=WebRtcHideLocalIpsWithMdns",
        f"--user-data-dir={folder}",
        "--remote-debugging-port=0",
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
async def test_a_browser_and_a_leg_hear_and_see_each_other(tmp_path: Path) -> None:
    side = Side("b", speech(6))
    done: asyncio.Future[dict[str, Any]] = asyncio.Future()

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def offer(request: web.Request) -> web.Response:
        answer = await side.leg.answer(msgspec.json.decode(await request.text()))
        side.leg.open()
        side.leg.tell(False, False, True, False)
        side.start()
        return web.Response(text=answer)

    async def finish(request: web.Request) -> web.Response:
        done.set_result(msgspec.json.decode(await request.read()))
        return web.Response(text="")

    app = web.Application()
    app.add_routes(
        [web.get("/", page), web.post("/offer", offer), web.post("/done", finish)]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with browser(f"http://{host}:{port}/", tmp_path):
            async with asyncio.timeout(40):
                result = await done
            await side.until(lambda: len(side.shown) > 20)
            await side.until(lambda: np.abs(np.concatenate(side.heard)).max() > 1_000)
            assert "error" not in result, result
            assert result["colour"] == pytest.approx(ORANGE, abs=24)
            assert result["lost"] == 0
            assert side.states == ["connecting", "connected"]
            assert side.shown[-1][1].width == 320
            # Its own beeps are heard, and its own picture moves.
            assert side.leg.buffer.stats.played > 30
            assert side.leg._peer.transport.faults == 0
    finally:
        await side.close()
        await runner.cleanup()
