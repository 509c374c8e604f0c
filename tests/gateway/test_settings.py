"""gateway.toml and the environment."""

import pytest

from carnet.errors import CallerError
from gateway.settings import encode_settings, load_settings, make_settings, parse_address

VALID = """
site = "us"
jurisdiction = "US-VA"
operator = "Example Corp"
trust_domain = "example.com"
url = "https://gateway.example.com:8443"
"""


def write(directory, text):
    (directory / "gateway.toml").write_text(text)
    return directory


def test_the_file_gives_values_and_defaults_give_the_rest(tmp_path):
    settings = load_settings(write(tmp_path, VALID))

    assert (settings.site, settings.limits.transfer_hours) == ("us", 72)
    assert settings.identity == "spiffe://example.com/site/us/gateway/us"
    assert settings.log_origin == "example.com/site/us/log"
    assert settings.data_dir == tmp_path


def test_the_environment_overrides_the_file_also_in_a_section(tmp_path, monkeypatch):
    monkeypatch.setenv("CARNET_GATEWAY_OPERATOR", "Another Corp")
    monkeypatch.setenv("CARNET_GATEWAY_LIMITS__OPEN_TRANSFERS_MAX", "9")
    monkeypatch.setenv("CARNET_GATEWAY_LISTEN", '["127.0.0.1:1"]')

    settings = load_settings(write(tmp_path, VALID + "[limits]\nopen_transfers_max = 3\ntransfer_hours = 5\n"))

    assert settings.operator == "Another Corp"
    assert (settings.limits.open_transfers_max, settings.limits.transfer_hours) == (9, 5)
    assert settings.listen == ("127.0.0.1:1",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (VALID.replace("operator", "operater"), "unknown key operater"),
        (VALID + "[limits]\nopen_transfer_max = 3\n", "unknown key limits.open_transfer_max"),
        (VALID.replace('operator = "Example Corp"', ""), "missing key operator"),
        (VALID.replace("https:", "http:"), "url"),
        (VALID.replace("8443", "8443/path"), "url"),
        (VALID.replace('"us"', '"US!"'), "site"),
        (VALID + 'listen = ["nowhere"]\n', "listen.0"),
        (VALID + "[timeouts]\ndrain_s = 0\n", "timeouts.drain_s"),
        ("site = \n", "Invalid value"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path, text, named):
    with pytest.raises(CallerError) as caught:
        load_settings(write(tmp_path, text))

    assert caught.value.code == "E-CONFIG"
    assert named in caught.value.problem
    assert "\n" not in caught.value.problem


def test_a_directory_without_settings_is_no_site(tmp_path):
    with pytest.raises(CallerError, match=r"no gateway\.toml"):
        load_settings(tmp_path)


def test_paths_are_relative_to_the_file(tmp_path):
    settings = load_settings(write(tmp_path, VALID + 'data_dir = "data"\ncredentials_dir = "/run/credentials"\n'))

    assert settings.data_dir == tmp_path / "data"
    assert str(settings.credentials_dir) == "/run/credentials"


@pytest.mark.parametrize("operator", ["Example Corp", 'Quoted "Corp" \\ Sons', "Änderung GmbH", "tab\tbed"])
def test_written_settings_read_back_equal(tmp_path, operator):
    base = {
        "site": "us",
        "jurisdiction": "US",
        "trust_domain": "example.com",
        "url": "https://localhost:1",
        "hosts": ("127.0.0.1",),
    }
    settings = make_settings({**base, "operator": operator})

    found = load_settings(write(tmp_path, encode_settings(settings)))

    assert found == settings.model_copy(update={"data_dir": tmp_path})


@pytest.mark.parametrize(
    ("text", "expected"), [("[::1]:8443", ("::1", 8443)), ("localhost:0", ("localhost", 0)), ("1.2.3.4:1", ("1.2.3.4", 1))]
)
def test_addresses_are_host_and_port(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", ":", "host", "host:", "host:99999", "[zz]:1", "a b:1", "host:-1", "host:1x", "::1:80"])
def test_other_addresses_are_refused(text):
    with pytest.raises(ValueError):
        parse_address(text)
