"""The seam to devices: NAPALM's verbs, with the rollback timer on the device itself."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import ClassVar, Protocol

from pydantic import Field

from inventory.errors import ExtranetError
from inventory.model import Model
from nornir_tasks.old_line import UsageRead
from nornir_tasks.redaction import redact


class Capabilities(Model):
    """What a platform can do; checked before planning, never assumed."""

    platform: str
    rollback_timer: bool
    atomic_replace: bool
    candidate_check: bool


class Pending(Model):
    """A change that is loaded but not confirmed: the device goes back by itself in `seconds_left`."""

    id: str
    seconds_left: int


class RouterProbe(Model):
    """What a router is to look at itself: an address, from one of its own, in one of its VRFs."""

    vrf: str
    source: str
    address: str


class RouterSight(Model):
    """What a router saw: echo requests sent and answered, and who answered on the way (None: nobody).

    `said` is what this was read from, word for word.
    """

    probe: RouterProbe
    sent: int
    answered: int
    hops: tuple[str | None, ...] = ()
    reached: bool = False
    problem: str = ""
    said: str = Field(default="", exclude=True, repr=False)


class Driver(Protocol):
    """One session with one device.

    Order of a change: `load_*_candidate` (sends and checks; raises CommitRejectedError) -> `compare_config` ->
    `commit_config(revert_in)` (arms the timer, then applies; a failed apply goes back at once) ->
    `confirm_commit` or `rollback`. Every verb is safe to repeat after a lost session.
    """

    device: str
    capabilities: Capabilities

    def open(self) -> None:
        """Log in; raises DeviceUnreachableError, HostKeyError or LoginRefusedError."""

    def close(self) -> None:
        """Log out; never raises."""

    def get_config(self) -> str:
        """Return the running configuration without volatile lines."""

    def look(self, probes: Sequence[RouterProbe]) -> list[RouterSight]:
        """Ping and trace from the router itself, all probes at once; one sight a probe, in their order."""

    def read_usage(self, names: Sequence[IPv4Network], *, listen_s: float) -> UsageRead:
        """Return who still uses the device, in one go: changes nothing; what it cannot tell is unknown by name.

        `names` are the prefixes whose routes and configuration lines are wanted. No secret of its configuration is in
        what comes back: neither in lines nor in the words that are kept.
        """

    def load_replace_candidate(self, config: str) -> None:
        """Stage a whole configuration and have the device check it."""

    def load_merge_candidate(self, config: str) -> None:
        """Stage lines to add to the running configuration (with `no ...` lines to remove) and have them checked."""

    def compare_config(self) -> str:
        """Return what the candidate would change: lines with `+ ` or `- `; empty when nothing."""

    def commit_config(self, *, revert_in_s: int, change_id: str) -> str:
        """Arm the timer on the device, then apply. With no confirm within `revert_in_s` the device goes back.

        Return what was seen to run then, as `get_config` gives it.
        """

    def confirm_commit(self, change_id: str) -> None:
        """Disarm the timer and save the running configuration for the next boot. Raises when it already fired."""

    def rollback(self, change_id: str) -> None:
        """Go back now to what ran before the change; does nothing when the device has already gone back."""

    def pending(self) -> Pending | None:
        """Return the unconfirmed change, if any."""


# DeviceError                     something about one device; str() is one line
# ├── DeviceUnreachableError      no TCP, no SSH banner, or the session died
# ├── HostKeyError                the host key is not the known one: never continue
# ├── LoginRefusedError           authentication refused
# ├── CommitRejectedError         the device refused a line of the candidate
# ├── CommitFailedError           applying went wrong; says whether the device went back
# ├── NotPendingError             confirm came after the device had gone back
# └── DeviceBusyError             another unconfirmed change is armed on the device


class DeviceError(ExtranetError):
    """Something about one device. `device` names it; `what` says what; `todo` what to do."""

    exit_code: ClassVar[int] = 4

    def __init__(self, device: str, what: str, todo: str) -> None:
        self.device, self.what, self.todo = device, what, todo
        super().__init__(f"{device}: {what}; {todo}")


class DeviceUnreachableError(DeviceError):
    """No TCP, no SSH banner, or the session died."""


class HostKeyError(DeviceError):
    """The host key is not the known one."""


class LoginRefusedError(DeviceError):
    """Authentication was refused."""


class CommitRejectedError(DeviceError):
    """The device refused a line of the candidate; what may be a secret in it is hidden."""

    def __init__(self, device: str, line: str, reply: str) -> None:
        self.line, self.reply = redact(line), redact(reply)
        super().__init__(device, f"line refused: {self.line!r} ({self.reply})", "nothing was changed; correct the line")


class CommitFailedError(DeviceError):
    """Applying went wrong."""


class NotPendingError(DeviceError):
    """The device has already gone back."""


class DeviceBusyError(DeviceError):
    """Another unconfirmed change is armed."""
