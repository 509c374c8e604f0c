"""`duty sign` and `duty done` with what does not fit: every value that is wrong is told in words."""

import pytest

from carnet.flow.commandline import run
from carnet.keys import SigningKey, encode_private_key
from gateway.cli import build_app

DUTY = "0123456789abcdef"
GIVEN = {"--site": "us", "--as": "bob:security", "--note": "told the others"}


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a command of `duty` in a directory that holds a person's key; returns status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "bob.key"
    key.write_text(encode_private_key(SigningKey(bytes([7]) * 32)))
    key.chmod(0o600)

    def ask(*words):
        status = run(build_app(), "carnet-gateway", ["duty", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return ask


def sign(call, duty=DUTY, **changes):
    given = GIVEN | {f"--{name.rstrip('_')}": value for name, value in changes.items()}
    return call("sign", duty, *(word for pair in given.items() for word in pair), "--key", "bob.key")


def test_what_fits_is_signed(call):
    status, out, err = sign(call)

    assert (status, "application/vnd.carnet.fulfilment.v1+json" in out, err) == (0, True, "")


@pytest.mark.parametrize("duty", ["123", "0123456789ABCDEF", "0123456789abcdef0"])
def test_what_is_no_id_of_a_duty_is_told_what_one_looks_like_and_who_shows_it(call, duty):
    status, out, err = sign(call, duty)

    assert (status, out) == (2, "")
    assert (
        f"the id of a duty is 16 hexadecimal digits, got '{duty}' [E-USAGE]\nhint: give it as `carnet-gateway duty list DIR`"
        in err
    )


@pytest.mark.parametrize("who", ["dev", "dev:", ":security", "Dev:security", "dev:Security"])
def test_a_person_without_a_role_is_told_how_both_are_written(call, who):
    status, out, err = sign(call, as_=who)

    assert (status, out) == (2, "")
    assert f"got '{who}' [E-USAGE]\nhint: write NAME:ROLE, such as bob:security" in err


@pytest.mark.parametrize(("name", "value"), [("site", "US!"), ("note", ""), ("note", "two\nlines")])
def test_another_value_that_does_not_fit_is_told_by_the_name_of_its_option(call, name, value):
    status, out, err = sign(call, **{name: value})

    assert (status, out) == (2, "")
    assert f"carnet-gateway: --{name} is " in err
    assert "pattern" not in err


def test_a_file_that_nobody_signed_is_told_by_its_name_and_what_makes_one(call, tmp_path):
    (tmp_path / "note.txt").write_text("told the others")

    status, _, err = call("done", "site", "note.txt")

    assert status == 1
    assert "note.txt: " in err
    assert "hint: name what `carnet-gateway duty sign` printed" in err
