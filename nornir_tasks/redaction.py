"""Take secrets out of configurations before they are shown: what a line names as a secret, whoever's syntax it is.

Rather a word too many than one too few: a line about a key keeps its first words and loses the rest, but for IPv4
addresses and prefixes, by which it is found. What is kept for rebuilding is never redacted; it stays in files that only
their owner may read.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network

HIDDEN = "<hidden>"

_WORDS = (
    r"pass-?phrase|passcode|community(?!-list|-filter)|community-string|"
    r"key-string|keyring|pre-shared-key|psk|authentication-key|auth-key|message-digest-key|"
    r"md5|sha(?:-?\d+)?(?:[\s-]\d{3})?|hmac-\S+|cipher|irreversible-cipher|simple|plain(?:-text)?|token|wpa-psk|"
    r"(?:api|private|pre-?shared)[-_]?key|r[ow]community6?|secrets|authorization(?=\s*:)|"
    r"auth-pass|priv-pass|key|priv|privacy-mode|encryption-hex|authentication-hex|securityname|"
    r"authentication\s+(?:string|text)|nhrp\s+authentication|(?:standby|glbp)\s+\d+\s+authentication|"
    r"snmp-server\s+host\s+\S+"  # a community without a word before it
)
_SECRET = re.compile(
    rf"(?P<word>passw(?:or)?d|passwd|secret|(?<![^\s\"'{{;-])(?:{_WORDS}))[\"']?[\s:=]+(?P<rest>\S.*)$", re.IGNORECASE
)
_KIND = re.compile(
    r"^(?:\d{1,2}\s+(?=\S))?"
    r"(?:(?:cipher|simple|plain|irreversible-cipher|encrypted|clear|hash|md5|sha(?:-?\d+)?|string)\s+(?=\S)(?:\d{1,2}\s+(?=\S))?)?",
    re.IGNORECASE,
)
# `key chain NAME` and `key 1` name a secret and hold none; a longer number may be one.
_HARMLESS_KEY = re.compile(r"^(?:chain\s+\S+|\d{1,3}|generate\b.*|zeroize\b.*)$", re.IGNORECASE)
_FILTER = re.compile(
    r"^(?:(?:permit|deny)\s+(?:\S+\s+\S.*|any|[\d.:/]+)|in|out|both|extended|standard|additive|none)$", re.IGNORECASE
)
"""What follows the name of a list or map that happens to be called like a secret."""
_PASSWORD = re.compile(r"pass|secret", re.IGNORECASE)
_BGP_COMMUNITY = re.compile(
    r"^[+\s-]*(?:no\s+)?(?:(?:set|match|apply|if-match)\s+(?:\S+-)?|neighbor\s+\S+\s+send-|bgp\s+|large-)community(?![-\w])",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(://[^\s:/@]*:)\S+@")
_ADDRESS = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2}(?:\.\d{1,3}){0,3})?(?![\w.])")
_PEM = re.compile(r"-----BEGIN [A-Z ]*(?:PRIVATE KEY|CERTIFICATE)-----.*?-----END [A-Z ]*-----", re.DOTALL)


def redact(text: str) -> str:
    """Return a configuration in which everything that may be a secret is replaced by a mark."""
    # Not splitlines: it also parts lines at characters that a secret may hold.
    return "\n".join(map(_redact_line, _PEM.sub(HIDDEN, text).split("\n")))


def _redact_line(line: str) -> str:
    body = line.rstrip("\r")
    end = line[len(body) :]
    if _BGP_COMMUNITY.match(body):  # routing attributes, which are no secrets
        return line
    body = _LOGIN.sub(rf"\1{HIDDEN}@", body)
    found = _SECRET.search(body)
    while found is not None and _is_harmless(found["word"], found["rest"].strip()):
        found = _SECRET.search(body, found.end("word"))
    if found is None:
        return body + end
    rest = found["rest"]
    kind = _KIND.match(rest)
    start = kind.end() if kind else 0
    return " ".join([f"{body[: found.start('rest')]}{rest[:start]}{HIDDEN}", *_find_addresses(rest[start:])]) + end


def _is_harmless(word: str, rest: str) -> bool:
    """Tell whether what follows a word is no secret of its own."""
    if word.lower() == "key" and _HARMLESS_KEY.match(rest):
        return True
    return not _PASSWORD.search(word) and _FILTER.match(rest) is not None


def _find_addresses(rest: str) -> list[str]:
    """Return the addresses and prefixes among several words, with a port or a range too; a word alone is the secret."""
    return (
        [word for word in _ADDRESS.findall(rest) if _is_ipv4(word)] if len(rest.replace(",", " ").split()) > 1 else []
    )


def _is_ipv4(word: str) -> bool:
    try:
        IPv4Network(word, strict=False)
    except ValueError:
        return False
    return True
