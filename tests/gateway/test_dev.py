"""`carnet-gateway dev` as a process: what a script that starts it relies on."""

import http.client
import json
import signal
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

HANGS_S = 60
"""A process that takes longer hangs. No test judges how soon it is ready or ends, for a machine may be loaded."""


@contextmanager
def running(directory, *arguments):
    """Start the site; yields the process and its parsed line."""
    command = [str(Path(sys.executable).with_name("carnet-gateway")), "dev", str(directory), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        yield process, json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=HANGS_S)


def status_of(announced, path, *, host="localhost"):
    context = ssl.create_default_context(cafile=announced["ca"])
    context.load_cert_chain(announced["cert"], announced["key"])
    connection = http.client.HTTPSConnection(host, int(announced["registry"].rpartition(":")[2]), context=context, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_one_line_alone_on_standard_output_once_it_accepts_connections(tmp_path):
    with running(tmp_path / "site") as (process, announced):
        assert status_of(announced, "/v1/trust") == 200

    assert list(announced) == ["url", "registry", "console", "ca", "cert", "key", "person", "config"]
    assert announced["console"] == f"https://{announced['registry']}/console"
    assert all(Path(announced[name]).is_file() for name in ("ca", "cert", "key", "person", "config"))
    assert process.returncode == 0


def test_the_servers_certificate_names_localhost_and_both_loopback_addresses(tmp_path):
    from cryptography import x509

    with running(tmp_path / "site") as (_, announced):
        assert status_of(announced, "/v1/trust", host="127.0.0.1") == 200
        port = int(announced["registry"].rpartition(":")[2])
        leaf = x509.load_pem_x509_certificate(ssl.get_server_certificate(("localhost", port)).encode())

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_it_ends_after_sigterm_and_says_nothing_more_on_standard_output(tmp_path):
    with running(tmp_path / "site") as (process, _):
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=HANGS_S)

    assert (process.returncode, out) == (0, "")


def test_sighup_reads_the_policy_again_and_one_that_is_not_sound_leaves_the_site_as_it_was(tmp_path):
    with running(tmp_path / "site") as (process, announced):
        policy = next((tmp_path / "site" / "policy").glob("*.yaml"))
        policy.write_text("rules: nonsense\n", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        while "policy_refused" not in (line := process.stderr.readline()):
            assert line
        assert status_of(announced, "/v1/trust") == 200

    assert process.returncode == 0


def test_started_again_it_keeps_its_keys_and_serves_under_its_new_port(tmp_path):
    with running(tmp_path / "site") as (_, first):
        before = {name: Path(first[name]).read_bytes() for name in ("ca", "cert", "key", "person")}
    with running(tmp_path / "site") as (_, again):
        assert status_of(again, "/v1/trust") == 200

    assert {name: Path(again[name]).read_bytes() for name in before} == before
    assert again["url"] in Path(again["config"]).read_text()


def test_a_second_one_on_the_same_directory_is_refused_as_busy(tmp_path):
    command = [str(Path(sys.executable).with_name("carnet-gateway")), "dev", str(tmp_path / "site")]
    with running(tmp_path / "site"):
        second = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    assert (second.returncode, second.stdout) == (5, "")
    assert "another process serves the site" in second.stderr


def test_the_port_asked_for_is_served(tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running(tmp_path / "site", "--port", str(port)) as (_, announced):
        assert announced["url"] == f"https://localhost:{port}"
        assert status_of(announced, "/v1/trust") == 200


def test_a_site_before_its_first_bundle_serves_nothing_but_says_why(tmp_path):
    """Health is answered; whoever asks for more is told that no trust bundle was imported."""
    from datetime import UTC, datetime

    from gateway.sitedir import SitePaths, load_authority

    gateway = str(Path(sys.executable).with_name("carnet-gateway"))
    with _free_port() as port:
        pass
    subprocess.run(
        [gateway, "init", str(tmp_path / "us"), "--site", "us", "--jurisdiction", "US", "--operator", "x", "--trust-domain",
         "example.com", "--url", f"https://localhost:{port}", "--listen", f"127.0.0.1:{port}"],
        check=True, capture_output=True,
    )  # fmt: skip
    paths = SitePaths(tmp_path / "us")
    announced = _client_certificate(load_authority(paths), tmp_path, datetime.now(UTC)) | {
        "ca": str(paths.authority_certificate),
        "registry": f"localhost:{port}",
    }
    process = subprocess.Popen([gateway, "serve", str(tmp_path / "us")], stderr=subprocess.PIPE, text=True)
    try:
        while "serves https://" not in (line := process.stderr.readline()):
            assert line
        assert status_of(announced, "/healthz") == 200
        assert status_of(announced, "/v1/trust") == 422  # E-TRUST
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=HANGS_S)
    assert process.returncode == 0


@contextmanager
def _free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def _client_certificate(authority, directory, now):
    from carnet.identifiers import SpiffeId
    from gateway.pki import encode_chain, encode_key, new_key

    key = new_key()
    leaf = authority.issue_client(SpiffeId("spiffe://example.com/site/us/agent/ci"), key.public_key(), now)
    (directory / "c.crt").write_bytes(encode_chain(leaf, authority.certificate))
    (directory / "c.key").write_bytes(encode_key(key))
    return {"cert": str(directory / "c.crt"), "key": str(directory / "c.key")}
