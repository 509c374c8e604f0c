"""carnet.toml: where it is found, what overrides it, and how a mistake is told."""

from pathlib import Path

import pytest

from agent.amounts import parse_rate
from agent.settings import encode_settings, find_settings_file, load_settings, user_cache_dir, user_settings_file
from carnet.errors import CallerError
from carnet.identifiers import Digest, SiteName

VALID = 'url = "https://gateway.example.com:8443"\nsite = "us"\n'


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No settings but those the test writes."""
    for name in ("CARNET_CONFIG", "CARNET_URL", "CARNET_SITE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


def write(path, text=VALID):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_named_on_the_command_line_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("CARNET_CONFIG", str(write(tmp_path / "env.toml")))
    write(tmp_path / "xdg" / "carnet" / "carnet.toml")
    named = write(tmp_path / "named.toml")

    assert find_settings_file(named) == named


def test_the_environments_file_comes_before_the_persons(tmp_path, monkeypatch):
    write(tmp_path / "xdg" / "carnet" / "carnet.toml")
    monkeypatch.setenv("CARNET_CONFIG", str(write(tmp_path / "env.toml")))

    assert find_settings_file() == tmp_path / "env.toml"


def test_the_persons_own_file_is_found(tmp_path):
    assert user_settings_file() == tmp_path / "xdg" / "carnet" / "carnet.toml"
    write(user_settings_file())

    assert load_settings().site == "us"


def test_a_relative_xdg_directory_is_ignored(monkeypatch):
    """XDG base directory specification: a relative path is invalid."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")

    assert user_settings_file() == Path.home() / ".config" / "carnet" / "carnet.toml"


def test_a_named_file_that_is_not_there_is_an_error_and_not_skipped(tmp_path):
    write(tmp_path / "xdg" / "carnet" / "carnet.toml")

    with pytest.raises(CallerError) as caught:
        load_settings(tmp_path / "missing.toml")

    assert caught.value.code == "E-CONFIG"


def test_the_environment_overrides_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("CARNET_URL", "https://other:1")
    monkeypatch.setenv("CARNET_PARALLEL", "9")

    settings = load_settings(write(tmp_path / "carnet.toml"))

    assert (settings.url, settings.parallel, settings.site) == ("https://other:1", 9, "us")


def test_the_environment_alone_is_enough(monkeypatch):
    monkeypatch.setenv("CARNET_URL", "https://other:1")
    monkeypatch.setenv("CARNET_SITE", "eu")

    assert load_settings().site == "eu"


def test_without_any_settings_the_agent_is_not_enrolled():
    with pytest.raises(CallerError) as caught:
        load_settings()

    assert caught.value.code == "E-NOT-ENROLLED"


def test_the_identity_directory_is_relative_to_the_file(tmp_path):
    path = write(tmp_path / "deep" / "carnet.toml", VALID + 'identity_dir = "mine"\n')

    assert load_settings(path).identity_dir == tmp_path / "deep" / "mine"


@pytest.mark.parametrize(("text", "rate"), [("10M", 10_000_000), ("1Ki", 1024), ("7", 7)])
def test_a_rate_is_written_in_the_environment_and_the_file_as_in_the_flag(tmp_path, monkeypatch, text, rate):
    assert parse_rate(text) == rate
    assert load_settings(write(tmp_path / "carnet.toml", f'{VALID}limit_rate = "{text}"\n')).limit_rate == rate
    monkeypatch.setenv("CARNET_LIMIT_RATE", text)
    assert load_settings(write(tmp_path / "carnet.toml")).limit_rate == rate


@pytest.mark.parametrize(("name", "text"), [("PARALLEL", "x"), ("LIMIT_RATE", "fast"), ("URL", "here"), ("SITE", "No Name")])
def test_a_variable_of_the_environment_is_named_and_the_file_is_not_blamed(tmp_path, monkeypatch, name, text):
    monkeypatch.setenv(f"CARNET_{name}", text)

    with pytest.raises(CallerError) as caught:
        load_settings(write(tmp_path / "carnet.toml"))

    assert f"CARNET_{name}" in caught.value.problem
    assert "carnet.toml" not in caught.value.problem


@pytest.mark.parametrize("text", [b"dear reader", b"\xf9\xff"])
def test_a_file_that_is_not_toml_is_named(tmp_path, text):
    path = tmp_path / "carnet.toml"
    path.write_bytes(text)

    with pytest.raises(CallerError, match=r"carnet\.toml: [^:]"):
        load_settings(path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (VALID + "paralel = 3\n", "unknown key paralel"),
        ('site = "us"\n', "missing key url"),
        (VALID.replace("https", "http"), "url"),
        (VALID + "parallel = 0\n", "parallel"),
        (VALID + 'root_fingerprint = "abc"\n', "root_fingerprint"),
        ("url = \n", "Invalid value"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path, text, named):
    with pytest.raises(CallerError) as caught:
        load_settings(write(tmp_path / "carnet.toml", text))

    assert named in caught.value.problem
    assert "\n" not in caught.value.problem


def test_written_settings_read_back_equal(tmp_path):
    roots = Digest.of(b"roots")
    text = encode_settings("https://localhost:8443", SiteName("us"), tmp_path / 'odd "name"', roots)

    found = load_settings(write(tmp_path / "carnet.toml", text))

    assert (found.url, found.site, found.identity_dir, found.root_fingerprint) == (
        "https://localhost:8443",
        "us",
        tmp_path / 'odd "name"',
        roots,
    )


def test_the_persons_key_is_found_beside_the_file(tmp_path):
    named = write(tmp_path / "etc" / "named.toml", VALID + 'person_key = "ada.key"\n')

    assert load_settings(named).person_key == tmp_path / "etc" / "ada.key"
    assert load_settings(write(tmp_path / "other.toml")).person_key is None


def test_the_cache_is_where_xdg_says_and_where_the_file_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert user_cache_dir() == tmp_path / "cache" / "carnet"

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache_dir() == Path.home() / ".cache" / "carnet"
    assert load_settings(write(tmp_path / "a" / "carnet.toml")).cache_dir is None
    assert (
        load_settings(write(tmp_path / "b" / "carnet.toml", VALID + 'cache_dir = "kept"\n')).cache_dir == tmp_path / "b" / "kept"
    )


def test_a_user_without_a_home_has_no_files_of_his_own(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", unknown)

    assert find_settings_file() is None
