"""Which address a cluster is asked at, and with which token."""

from __future__ import annotations

from pathlib import Path

import pytest

import jobs as small
from lehr import plan as plans
from lehr import spec as specs
from lehr.errors import UserError
from lehr.launch import addresses, embedded
from lehr.launch.addresses import Address, Token

HERE, THERE = Address("http://localhost:8265"), Address("http://head:8265")


@pytest.mark.parametrize(
    "text", ["http://head:8265", "https://ray.example.com", "http://10.0.0.1:8265/", "https://proxy/ray/", "http://[::1]:8265"]
)  # fmt: skip
def test_dashboards_address_is_taken(text: str) -> None:
    assert addresses.parse(text).url == text.rstrip("/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("head:6379", "port 6379 is the one for drivers, which `lehr run --address` takes"),
        ("head:6379", "do: is it http://head:8265?"),
        ("head:8265", "do: is it http://head:8265?"),
        ("10.0.0.1", "do: is it http://10.0.0.1:8265?"),
        ("http://head:6379", "port 6379 is the one for drivers"),
        ("http://head:10001", "do: is it http://head:8265?"),
        ("ray://head:10001", "address of Ray Client"),
        ("ray://head:10001", "do: is it http://head:8265?"),
        ("auto", "accepted: the address of the cluster's dashboard, as http://head:8265"),
        ("ftp://head", "ftp:// is no dashboard"),
        ("http://", "no address of a host"),
        ("http://head:8265?token=x", "no address of a host"),
        ("http://head:99999", "ort"),
    ],
)
def test_other_address_is_refused_with_the_one_that_is_wanted(text: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        addresses.parse(text)
    assert said in str(refused.value)


def test_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(UserError) as refused:
        addresses.parse("http://me:hunter2@head:8265")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:8265", True),
        ("http://127.0.0.1:8265", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:8265", True),
        ("http://localhost.example.com", False),
        ("http://10.0.0.1", False),
        ("http://0.0.0.0:8265", False),
        ("http://127.0.0.1.example.com", False),
    ],
)
def test_loopback_is_told_by_the_name_alone(url: str, loopback: bool) -> None:
    assert Address(url).loopback is loopback


@pytest.mark.parametrize(
    ("given", "environment", "url"),
    [
        ("http://a:1", {"RAY_API_SERVER_ADDRESS": "http://b:1", "RAY_ADDRESS": "http://c:1"}, "http://a:1"),
        (None, {"RAY_API_SERVER_ADDRESS": "http://b:1", "RAY_ADDRESS": "http://c:1"}, "http://b:1"),
        (None, {"RAY_ADDRESS": "http://c:1"}, "http://c:1"),
        (None, {"RAY_ADDRESS": "head:6379"}, None),
        (None, {"RAY_ADDRESS": "auto"}, None),
        (None, {}, None),
    ],
)
def test_the_nearest_word_on_the_cluster_counts(
    given: str | None, environment: dict[str, str], url: str | None
) -> None:
    found = addresses.choose(given, environment)
    assert (found.url if found else None) == url


def test_command_that_needs_a_cluster_says_which_variable_names_none() -> None:
    with pytest.raises(UserError, match=r"RAY_ADDRESS head:6379: .*\n.*\n  do: is it http://head:8265\?"):
        addresses.require(None, {"RAY_ADDRESS": "head:6379"})
    with pytest.raises(UserError, match="no cluster is named"):
        addresses.require(None, {})


def test_token_is_found_where_ray_finds_it(tmp_path: Path) -> None:
    assert addresses.token({}, home=tmp_path) is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-home\n")
    (tmp_path / "file").write_text(" of-file \n")
    environment = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "file")}
    found = [addresses.token(given, home=tmp_path) for given in
             ({}, environment, {**environment, "RAY_AUTH_TOKEN": "of-variable"})]  # fmt: skip
    assert [token.text for token in found if token] == ["of-home", "of-file", "of-variable"]


def test_token_that_is_none_is_refused_and_never_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="RAY_AUTH_TOKEN_PATH") as missing:
        addresses.token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}, home=tmp_path)
    assert "No such file" in str(missing.value)
    with pytest.raises(UserError) as refused:
        addresses.token({"RAY_AUTH_TOKEN": "two\nlines"}, home=tmp_path)
    assert "two" not in str(refused.value)
    assert "secret" not in repr(Token("secret", "here"))


def test_address_elsewhere_needs_a_token_and_one_here_does_not() -> None:
    assert addresses.authorised(HERE, None) == {}
    with pytest.raises(UserError) as refused:
        addresses.authorised(THERE, None)
    assert "is not on this machine, and there is no token for it here" in str(refused.value)
    assert "RAY_AUTH_TOKEN" in str(refused.value)
    assert addresses.authorised(THERE, Token("t", "here")) == {"Authorization": "Bearer t"}


def test_dashboards_address_is_none_of_drivers() -> None:
    """RAY_ADDRESS may name either, and `lehr run` reads it, too."""
    with (
        pytest.raises(UserError, match=r"address of a dashboard.*\n.*\n.*unset RAY_ADDRESS"),
        embedded.cluster(plans.make(specs.parse(small.EBM)), "http://head:8265"),
    ):
        pass
