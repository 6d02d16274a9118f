"""Take secrets out of configurations before they are shown: what a line names as a secret, whoever's syntax it is.

Rather a word too many than one too few: a line about a key keeps its first words and loses the rest. What is kept for
rebuilding is never redacted; it stays in files that only their owner may read.
"""

from __future__ import annotations

import re

HIDDEN = "<hidden>"

_WORDS = (
    r"[\w-]*(?:passw(?:or)?d|passwd|passphrase|secret)|community(?!-list|-filter)|community-string|key-string|keyring|"
    r"pre-shared-key|psk|authentication-key|auth-key|message-digest-key|"
    r"md5|sha\d*|hmac-\S+|cipher|irreversible-cipher|simple|plain(?:-text)?|token|encrypted-password|private-key|wpa-psk|"
    r"auth-pass(?:word)?|priv-pass(?:word)?|shared-secret|key"
)
_SECRET = re.compile(rf"(?P<lead>(?:^|[\s\"'{{;-])(?:{_WORDS}))(?P<gap>[\s:=]+)(?P<rest>\S.*)$", re.IGNORECASE)
_KIND = re.compile(r"^(?:\d{1,2}|cipher|simple|plain|irreversible-cipher|encrypted|hash|md5|sha\d*|string)(?=\s+\S)")
_HARMLESS = re.compile(
    r"^(?:chain\s+\S+|\d+|generate\b.*|zeroize\b.*)$|"  # `key chain NAME` and `key 1` name a secret and hold none
    r"^(?:(?:permit|deny|in|out|both|extended|standard|send|additive|none)\b.*)$",
    re.IGNORECASE,
)
_BGP_COMMUNITY = re.compile(
    r"^\s*(?:no\s+)?(?:set|match|neighbor\s+\S+\s+send-|bgp\s+|large-)\s*community\b", re.IGNORECASE
)
_PEM = re.compile(r"-----BEGIN [A-Z ]*(?:PRIVATE KEY|CERTIFICATE)-----.*?-----END [A-Z ]*-----", re.DOTALL)


def redact(text: str) -> str:
    """Return a configuration in which everything that may be a secret is replaced by a mark."""
    text = _PEM.sub(HIDDEN, text)
    return "".join(_redact_line(line) for line in text.splitlines(keepends=True))


def _redact_line(line: str) -> str:
    body = line.rstrip("\r\n")
    end = line[len(body) :]
    if _BGP_COMMUNITY.match(body):  # routing attributes, which are no secrets
        return line
    found = _SECRET.search(body)
    if found is None or _HARMLESS.match(found["rest"].strip()):
        return line
    kind = _KIND.match(found["rest"])
    kept = f"{kind[0]} " if kind else ""
    return f"{body[: found.start('rest')]}{kept}{HIDDEN}{end}"
