"""Redaction: what may be a secret is shown to nobody; what is none stays readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nornir_tasks.redaction import HIDDEN, redact

SECRETS = [
    "password s3cret",
    "enable password 8 s3cret",
    "enable secret 5 s3cret",
    "username admin privilege 15 secret 9 s3cret",
    "snmp-server community s3cret RO",
    "snmp-agent community read cipher s3cret",
    " neighbor 10.0.0.1 password s3cret",
    " ip ospf message-digest-key 1 md5 s3cret",
    " ip ospf authentication-key s3cret",
    "  key-string 7 s3cret",
    " local-user admin password irreversible-cipher s3cret",
    "tacacs-server key s3cret",
    " ike pre-shared-key simple s3cret",
    " isis password md5 s3cret",
    " set psksecret s3cret",
    "radius shared-key cipher s3cret",
    " authentication-mode hmac-sha256 s3cret",
    "snmp-server user bob grp v3 auth sha s3cret priv aes 128 s3cret",
]
PLAIN = [
    "hostname fin-hub",
    "ip route 10.20.8.0/24 10.20.250.2",
    " ip address 10.20.250.1/30",
    " shutdown",
    "key chain ospf-keys",
    " key 1",
    " set community 65000:100 additive",
    " match community leaks",
    "bgp community-list standard leaks permit 65000:1",
    " neighbor 10.0.0.1 send-community both",
    "interface lan1",
]


@pytest.mark.parametrize("line", SECRETS)
def test_secrets_are_hidden(line: str) -> None:
    """Whatever the platform calls a secret, the secret is gone and the line is still there."""
    shown = redact(f"hostname r1\n{line}\nexit\n")
    assert "s3cret" not in shown
    assert HIDDEN in shown
    assert shown.splitlines()[0] == "hostname r1"
    assert len(shown.splitlines()) == 3


@pytest.mark.parametrize("line", PLAIN)
def test_what_is_no_secret_stays(line: str) -> None:
    """Addresses, routes, routing attributes and names of key chains stay as they are."""
    assert redact(f"{line}\n") == f"{line}\n"


def test_keys_in_blocks_are_hidden() -> None:
    """A private key printed over many lines is gone as a whole."""
    block = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----\n"
    assert redact(f"a\n{block}b\n") == f"a\n{HIDDEN}\nb\n"


@given(st.lists(st.sampled_from(SECRETS + PLAIN)))
def test_redacting_twice_changes_nothing(lines: list[str]) -> None:
    """What was redacted holds nothing to hide any more."""
    once = redact("\n".join(lines))
    assert redact(once) == once
    assert "s3cret" not in once
