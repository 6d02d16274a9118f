"""The FRR driver behind NAPALM's own base class, for tools that already speak NAPALM.

    driver = FrrNapalmDriver("2001:db8::11", "netops", "", optional_args={"key_file": ..., "known_hosts": ...})
    with driver:
        driver.load_replace_candidate(config=text)
        print(driver.compare_config())
        driver.commit_config(revert_in=120)     # the timer runs on the router
        driver.confirm_commit()                 # or driver.rollback(), or nothing: it goes back by itself

Passwords are not taken: FRR routers are logged in to by key or agent, with a known host key.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from napalm.base import NetworkDriver
from napalm.base.exceptions import CommitError, ConnectionException, MergeConfigException, ReplaceConfigException

from inventory.access import Access
from nornir_tasks.drivers import (
    CommitRejectedError,
    DeviceError,
    DeviceUnreachableError,
    HostKeyError,
    LoginRefusedError,
)
from nornir_tasks.platforms.frr.driver import FrrDriver

DEFAULT_REVERT_S = 60
"""Without `revert_in` the change is confirmed at once, behind a timer of this many seconds against a broken session."""


class FrrNapalmDriver(NetworkDriver):  # type: ignore[misc]  # NAPALM ships no types
    """NAPALM's verbs for FRR. `optional_args`: `known_hosts` (needed), `key_file`, `port`."""

    platform = "frr"

    def __init__(
        self,
        hostname: str,
        username: str,
        password: str,
        timeout: int = 60,
        optional_args: dict[str, Any] | None = None,
    ) -> None:
        if password:
            raise ConnectionException(
                f"{hostname}: passwords are not used; log in by key (optional_args key_file) or agent"
            )
        options = optional_args or {}
        if "known_hosts" not in options:
            raise ConnectionException(f"{hostname}: no known host keys; name a file with optional_args known_hosts")
        self.hostname, self.username, self.password, self.timeout = hostname, username, "", timeout
        access = Access(
            target="field",
            name=hostname,
            user=username,
            port=int(options.get("port", 22)),
            identity_file=options.get("key_file"),
            known_hosts=str(options["known_hosts"]),
            addresses={hostname: hostname},
        )
        self._driver = FrrDriver(hostname, access, timeout_s=timeout)
        self._change = ""

    def open(self) -> None:
        """Log in."""
        try:
            self._driver.open()
        except (DeviceUnreachableError, HostKeyError, LoginRefusedError) as error:
            raise ConnectionException(str(error)) from error

    def close(self) -> None:
        """Log out."""
        self._driver.close()

    def is_alive(self) -> dict[str, bool]:
        """Tell whether the router still answers."""
        try:
            self._driver.pending()
        except DeviceError:
            return {"is_alive": False}
        return {"is_alive": True}

    def load_replace_candidate(self, filename: str | None = None, config: str | None = None) -> None:
        """Stage a whole configuration and have the router check it."""
        try:
            self._driver.load_replace_candidate(_text(filename, config))
        except CommitRejectedError as error:
            raise ReplaceConfigException(str(error)) from error

    def load_merge_candidate(self, filename: str | None = None, config: str | None = None) -> None:
        """Stage lines to enter and have the router check them."""
        try:
            self._driver.load_merge_candidate(_text(filename, config))
        except CommitRejectedError as error:
            raise MergeConfigException(str(error)) from error

    def compare_config(self) -> str:
        """Return what the candidate would change."""
        return self._driver.compare_config()

    def commit_config(self, message: str = "", revert_in: int | None = None) -> None:
        """Apply with the timer armed on the router; without `revert_in` confirm at once."""
        del message  # FRR has nowhere to keep it
        if self.has_pending_commit():
            raise CommitError(f"{self.hostname}: a change is waiting to be confirmed; confirm it or roll it back first")
        self._change = f"napalm-{secrets.token_hex(4)}"
        try:
            self._driver.commit_config(revert_in_s=revert_in or DEFAULT_REVERT_S, change_id=self._change)
            if revert_in is None and self.has_pending_commit():
                self._driver.confirm_commit(self._change)
        except DeviceError as error:
            raise CommitError(str(error)) from error

    def confirm_commit(self) -> None:
        """Keep the change."""
        try:
            self._driver.confirm_commit(self._change)
        except DeviceError as error:
            raise CommitError(str(error)) from error

    def has_pending_commit(self) -> bool:
        """Ask the router whether a change is waiting to be confirmed."""
        return self._driver.pending() is not None

    def discard_config(self) -> None:
        """Forget the candidate; it was only staged in this session."""
        self._driver.discard_candidate()

    def rollback(self) -> None:
        """Go back to what ran before the change that is not confirmed yet."""
        try:
            self._driver.rollback(self._change)
        except DeviceError as error:
            raise CommitError(str(error)) from error

    def get_config(
        self,
        retrieve: str = "all",
        full: bool = False,  # noqa: FBT001, FBT002 - NAPALM's signature
        sanitized: bool = False,  # noqa: FBT001, FBT002
        format: str = "text",  # noqa: A002
    ) -> dict[str, str]:
        """Return the running configuration."""
        del full, sanitized, format
        running = self._driver.get_config() if retrieve in {"all", "running"} else ""
        return {"running": running, "startup": "", "candidate": ""}


def _text(filename: str | None, config: str | None) -> str:
    if filename is not None:
        return Path(filename).read_text("utf-8")
    return config or ""
