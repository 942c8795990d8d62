"""Blobs as a device sends and gets them, for tests."""

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from protocol.blob import Blobs, BlobUpload, NewBlob
from protocol.codec import decode, decode_json
from protocol.errors import Problem, refusal
from protocol.wire import Empty
from tests.node.phone import Phone

OCTETS = "application/octet-stream"


def blob_id(data: bytes) -> str:
    """The id of a blob."""
    return blake2b(data, digest_size=32).hexdigest()


def files(directory: Path) -> list[Path]:
    """Every file below a directory."""
    return [path for path in directory.rglob("*") if path.is_file()]


async def begin(device: Phone, blob: str, size: int) -> BlobUpload:
    """Begin an upload."""
    return await device.call("POST", "/telex/v1/blobs", NewBlob(blob, size), BlobUpload)


async def append(device: Phone, blob: str, offset: int, part: bytes) -> BlobUpload:
    """Send a part."""
    path, query = f"/telex/v1/blobs/{blob}", f"offset={offset}"
    headers = device.headers("PATCH", path, query, part, content_type=OCTETS)
    status, media, content = await device.send(
        "PATCH", path, part, query=query, headers=headers
    )
    if status != 200:
        assert media == "application/problem+json", (status, content)
        raise refusal(decode_json(content, Problem))
    return decode(content, BlobUpload)


async def state(device: Phone, blob: str) -> BlobUpload:
    """How far an upload is."""
    return await device.call("GET", f"/telex/v1/blobs/{blob}/upload", None, BlobUpload)


async def upload(device: Phone, data: bytes, part: int = 1024 * 1024) -> str:
    """Upload a blob whole, from wherever it is; its id."""
    blob = blob_id(data)
    found = await begin(device, blob, len(data))
    while not found.done:
        end = found.offset + part
        found = await append(device, blob, found.offset, data[found.offset : end])
    return blob


async def get(
    device: Phone,
    blob: str,
    node: str = "",
    method: str = "GET",
    **fields: str,
) -> tuple[int, Mapping[str, str], bytes]:
    """Ask for a blob: status, fields and body; a problem is raised.

    `fields` are header fields, with _ for -.
    """
    path, query = f"/telex/v1/blobs/{blob}", f"node={node}" if node else ""
    headers = device.headers(method, path, query)
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    url = f"{device.base}{path}" + (f"?{query}" if query else "")
    async with device.http.request(method, url, headers=headers) as answer:
        content = await answer.read()
        if answer.content_type == "application/problem+json" and content:
            error = refusal(decode_json(content, Problem))
            error.add_note(answer.headers.get("Content-Range", ""))
            raise error
        return answer.status, answer.headers, content


async def listed(device: Phone, after: str = "") -> Blobs:
    """What the account keeps."""
    query = f"after={after}" if after else ""
    return await device.call("GET", "/telex/v1/blobs", None, Blobs, query=query)


async def drop(device: Phone, blob: str) -> None:
    """Keep it no more."""
    await device.call("DELETE", f"/telex/v1/blobs/{blob}", None, Empty)
