"""The admin's side: certificates, ports in use, keys of another node."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from node.admin import AdminProblem, certificate_end
from node.app import Node, StartProblem
from node.config import ConfigProblem, Listen, Tls
from node.keys import KeyProblem
from node.lock import DataInUse, read_running
from tests.node.server import make_settings, running


def test_when_a_certificate_ends(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    with pytest.raises(AdminProblem):
        certificate_end(path)
    cert = trustme.CA().issue_cert("localhost")
    cert.cert_chain_pems[0].write_to_path(str(path))
    assert certificate_end(path) > 2_000_000_000
    path.write_text("no certificate")
    with pytest.raises(AdminProblem, match="holds no certificate"):
        certificate_end(path)


async def test_a_port_in_use_and_data_in_use(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with socket.create_server(("127.0.0.1", settings.port)):
        with pytest.raises(StartProblem, match=f"port {settings.port}"):
            await Node(settings).start()
        assert read_running(settings.data_dir) is None
    async with running(settings) as node:
        found = read_running(settings.data_dir)
        assert found is not None and found.url == f"http://127.0.0.1:{node.port}"
        elsewhere = replace(settings, listen=Listen(host="127.0.0.1", port=0))
        with pytest.raises(DataInUse):
            await Node(elsewhere).start()
    assert read_running(settings.data_dir) is None


def test_keys_and_certificates_that_do_not_fit(tmp_path: Path) -> None:
    one, two = make_settings(tmp_path), make_settings(tmp_path)
    with pytest.raises(KeyProblem, match="cannot change its name"):
        Node(replace(one, data_dir=two.data_dir))
    key = two.data_dir / "node.key"
    key.chmod(0o600)
    key.write_bytes((one.data_dir / "node.key").read_bytes())
    with pytest.raises(KeyProblem, match="one backup"):
        Node(two)
    key.unlink()
    with pytest.raises(KeyProblem, match="rotate-key --recovery-key"):
        Node(two)
    (two.data_dir / "node-keys.json").unlink()
    with pytest.raises(KeyProblem, match="telex-node init"):
        Node(two)
    nothing = Tls(tmp_path / "no.pem", tmp_path / "no.key")
    with pytest.raises(ConfigProblem, match="cannot be used"):
        Node(replace(one, tls=nothing))
    assert "seed" not in repr(Node(one)._keys)
