"""Redaction: what may be a secret is shown to nobody; what is none stays readable."""

from __future__ import annotations

import re
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.model import EXTRANET
from nornir_tasks.old_line import names_any
from nornir_tasks.platforms.frr.legacy import legacy_facts
from nornir_tasks.redaction import HIDDEN, redact
from tests.nornir_tasks.sample import rendered, sample

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
    "snmp-server host 10.20.0.9 version 2c s3cret",
    "snmp-agent target-host trap address udp-domain 10.20.0.9 params securityname s3cret v2c",
    "snmp-agent usm-user v3 bob privacy-mode aes128 s3cret",
    "area-password clear s3cret",
    " ip rip authentication string s3cret",
    " ip nhrp authentication s3cret",
    " standby 1 authentication s3cret",
    "tacacs-server host 10.20.0.9 key 7 s3cret",
    "radius-server host 10.20.0.9 auth-port 1812 key s3cret",
    "crypto isakmp key s3cret address 10.20.0.9",
    " pre-shared-key address 10.20.0.9 255.255.255.255 key cipher s3cret",
    " ppp chap password cipher s3cret",
    " ppp pap sent-username bob password 0 s3cret",
    " super password level 3 cipher s3cret",
    'set protocols bgp group a neighbor 10.20.0.9 authentication-key "s3cret"',
    'set security authentication-key-chains key-chain a key 1 secret "s3cret"',
    "+  neighbor 10.20.0.9 password s3cret",
    "access-list secret permit 10.20.0.0/24 password s3cret",
    "enable password in-s3cret",
    "password permit s3cret",
    "archive path ftp://bob:s3cret@10.20.0.9/configs",
    "password a\u2028s3cret",
    "snmp-server user bob grp v3 auth sha-256 s3cret priv aes 128 other",
    "snmp-server user bob grp v3 auth sha-2 256 s3cret",
    '  "password": "s3cret",',
    "Authorization: Basic s3cret",
    "api_key s3cret",
    "PrivateKey = s3cret",
    "PresharedKey = s3cret",
    "rocommunity s3cret 10.20.0.0/24",
    "secrets s3cret",
    " key permit s3cret",
    "set community-string s3cret",
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
    "+  set community 65000:100 additive",
    " set large-community 65000:1:1",
    " apply community 65000:100",
    " neighbor 10.0.0.1 route-map simple in",
    "access-list token permit 10.20.8.0/24",
    "access-list token permit any",
    "aaa authorization exec default group tacacs+",
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


@pytest.mark.parametrize("line", ["password 12345678", " key 12345678", "tacacs-server key 0 12345678", "password in"])
def test_secrets_that_look_like_something_else_are_hidden(line: str) -> None:
    """A number or a common word is a secret where one stands."""
    assert redact(line) == f"{line[: line.rindex(' ')]} {HIDDEN}"


@pytest.mark.parametrize("line", [line for line in SECRETS if "10.20.0." in line])
def test_addresses_are_never_hidden(line: str) -> None:
    """A line with a secret is still found by the addresses that it names, before the secret or after it."""
    where = (IPv4Network("10.20.0.0/16"),)
    assert names_any(redact(line), where) == names_any(line, where)


@pytest.mark.parametrize("address", ["10.20.8.9", "10.20.8.9:80", "10.20.8.1-10.20.8.9", "10.20.8.0/24,10.20.9.0/24"])
def test_an_address_stays_with_what_hangs_on_it(address: str) -> None:
    """A comment in a filter's rule may hold a word that looks like a secret's; whom the rule is about stays."""
    shown = redact(f'-A PREROUTING -m comment --comment "key server" -j DNAT --to-destination {address}')
    assert HIDDEN in shown
    assert all(part in shown for part in re.split("[-,:]", address) if "." in part)


def test_an_address_alone_may_be_a_secret() -> None:
    """Nothing tells a password that looks like an address from any other."""
    assert redact("password 7 10.20.0.9") == f"password 7 {HIDDEN}"


@pytest.mark.parametrize("cut_over", [False, True])
def test_what_the_inventory_gives_holds_nothing_to_hide(*, cut_over: bool) -> None:
    """Intended configurations, and the lines that legacy routers hold by right, are shown as they are."""
    county = sample()[0]
    for device in county.devices:
        if device.network == EXTRANET:
            text = rendered(device.id, cut_over=cut_over)
            assert redact(text) == text
    for network in county.networks:
        for facts in legacy_facts(county, network.id, {}).values():
            assert [redact(line) for _, line in facts] == [line for _, line in facts]


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
