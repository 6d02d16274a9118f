"""FRR on Linux over one SSH session: NAPALM's verbs, with the check and the rollback timer on the router itself.

netmiko makes the session (strict host keys, key file); every verb is one exec channel of it, so output, errors and exit
status are exact and nothing is read off a prompt. What runs on the router is `commit_confirm.sh` beside this file.

The difference is worked out here (`config.patch`) and verified there: after the lines are in, the running
configuration is read again and must say exactly what was wanted, else the router goes back at once. FRR's own
frr-reload.py is only the second way back on the device: on 8.4 it writes the startup file with every reload, which
would make an unconfirmed change survive a reboot, and it takes namespaces away from VRFs that a candidate leaves out.

Until confirmed, nothing is saved: a router that reboots in between comes back with its last confirmed configuration,
and knows nothing of a pending change.
"""

from __future__ import annotations

import hashlib
import logging
import random
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, NoReturn

from inventory.access import Access
from inventory.wording import counted
from nornir_tasks.drivers import (
    Capabilities,
    CommitFailedError,
    CommitRejectedError,
    DeviceBusyError,
    DeviceError,
    DeviceUnreachableError,
    HostKeyError,
    LoginRefusedError,
    NotPendingError,
    Pending,
    RouterProbe,
    RouterSight,
)
from nornir_tasks.old_line import UsageRead
from nornir_tasks.platforms.frr import config as frr
from nornir_tasks.platforms.frr import usage
from nornir_tasks.platforms.frr.look import NO_PYTHON, RouterLook
from nornir_tasks.redaction import redact

if TYPE_CHECKING:
    import paramiko

CAPABILITIES = Capabilities(platform="frr", rollback_timer=True, atomic_replace=False, candidate_check=True)
RUN_FOLDER = "/run/extranet"
BANNER_TRIES = 4
"""A busy sshd turns sessions away before its banner; only that is tried again."""

_REFUSED, _NO_SPACE, _BUSY, _NOT_PENDING, _STUCK, _MOVED, _IN_USE, _NOT_SAVED, _CONFIRMED = range(10, 19)
_NO_SCRIPT = 97

# Both log what passes through them at DEBUG, paramiko also tracebacks of sessions that end: never wanted here.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)
logging.getLogger("netmiko").setLevel(logging.WARNING)


class Reply:
    """What one command said: exact output, errors and exit status."""

    __slots__ = ("err", "out", "status")

    def __init__(self, out: str, err: str, status: int) -> None:
        self.out, self.err, self.status = out, err, status


class FrrDriver:
    """A session with one FRR router. Not for use by two threads at once."""

    capabilities = CAPABILITIES

    def __init__(self, device: str, access: Access, *, timeout_s: float = 60.0) -> None:
        self.device, self.access, self.timeout_s = device, access, timeout_s
        self._session: Any = None
        self._running_text = ""
        self._running: frr.FrrConfig | None = None
        self._wanted: frr.FrrConfig | None = None

    def open(self) -> None:
        """Log in; raises DeviceUnreachableError, HostKeyError or LoginRefusedError."""
        if self._alive():
            return
        address = self.access.addresses.get(self.device)
        if address is None:
            raise DeviceUnreachableError(
                self.device, "has no management address", f"add it to the access file of {self.access.name!r}"
            )
        for left in reversed(range(BANNER_TRIES)):
            try:
                self._session = _connect(self.device, address, self.access)
            except _BannerMissingError as error:
                if not left:
                    raise DeviceUnreachableError(
                        self.device, f"no SSH banner from {address}", "look at its sshd"
                    ) from error
                time.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - only spreads retries
            else:
                return

    def close(self) -> None:
        """Log out; never raises."""
        session, self._session = self._session, None
        if session is not None:
            session.disconnect()

    def get_config(self) -> str:
        """Return the running configuration without volatile lines, blocks in a fixed order."""
        reply = self._exec("vtysh -c 'show running-config no-header'")
        if reply.status or "\nend" not in reply.out:
            raise DeviceError(self.device, f"does not show its configuration: {_line(reply)}", "is FRR running there?")
        return frr.canonical(reply.out)

    def look(self, probes: Sequence[RouterProbe]) -> list[RouterSight]:
        """Ping and trace from the router itself: the stations' agent, run in each VRF, all in one command."""
        if not probes:
            return []
        look = RouterLook(probes, netns=self.access.vrf_backend == "netns")
        reply = self._exec(look.command, look.program)
        if reply.status == NO_PYTHON:
            raise DeviceError(self.device, "python3 - expected 3.9 or later, found none", "install it there")
        return look.read(reply.out)

    def read_usage(self, names: Sequence[IPv4Network], *, listen_s: float) -> UsageRead:
        """Return who still uses the router; what it cannot tell is unknown by name."""
        reply = self._exec(f"exec sh -s -- {listen_s:g}", usage.usage_script())
        return UsageRead(usage=usage.read_usage(self.device, reply.out, names), raw=usage.hide_secrets(reply.out))

    def load_replace_candidate(self, config: str) -> None:
        """Stage a whole configuration and have the router check its syntax."""
        running, wanted = self._check(config), frr.parse(config)
        here, there = (frr.hostnames(c) for c in (running, wanted))
        if there and here and not there & here:
            # A wrong address must not give one router another's configuration.
            what = f"calls itself {min(here)!r}, the configuration is for {min(there)!r}"
            raise DeviceError(self.device, what, f"check its address in the access file of {self.access.name!r}")
        self._wanted = wanted

    def load_merge_candidate(self, config: str) -> None:
        """Stage lines to enter (with `no ...` lines to remove) and have the router check their syntax."""
        running = self._check(config)
        self._wanted = frr.merged(running, frr.parse(config))

    def discard_candidate(self) -> None:
        """Forget what is staged; it was only in this session."""
        self._running = self._wanted = None

    def compare_config(self) -> str:
        """Return what the candidate would change in what ran when it was loaded; empty when nothing."""
        running, wanted = self._staged()
        return frr.differences(running, wanted)

    def commit_config(self, *, revert_in_s: int, change_id: str) -> str:
        """Arm the timer on the router, apply, and read back that it took; goes back at once when it did not."""
        running, wanted = self._staged()
        if frr.same(running, wanted):
            return self.get_config()
        there, back = frr.patch(running, wanted), frr.patch(wanted, running)
        reply = self._apply("commit", change_id, str(revert_in_s), self._digest(), texts=(there, back))
        found = frr.parse(reply.out)
        if not frr.same(found, wanted):
            # Some lines take only once others are gone; ask again for what is left, once.
            reply = self._apply("more", change_id, texts=(frr.patch(found, wanted),))
            found = frr.parse(reply.out)
        if not frr.same(found, wanted):
            self._undo_failed(change_id, frr.differences(found, wanted), reply.err)
        self._running, self._running_text = found, reply.out
        return frr.canonical(reply.out)

    def confirm_commit(self, change_id: str) -> None:
        """Disarm the timer and save for the next boot. Raises NotPendingError when the router has gone back."""
        reply = self._script("confirm", change_id)
        if reply.status == _NOT_SAVED:
            raise CommitFailedError(
                self.device,
                "the change is kept but could not be saved for the next boot",
                "make room in /etc/frr there and confirm again",
            )
        self._expect(reply, change_id)

    def rollback(self, change_id: str) -> None:
        """Go back now to what ran before the change; does nothing when the router has already gone back."""
        reply = self._script("rollback", change_id)
        if reply.status == _CONFIRMED:
            raise NotPendingError(
                self.device, f"change {change_id} was confirmed", "push the configuration wanted instead"
            )
        self._expect(reply, change_id)

    def pending(self) -> Pending | None:
        """Return the unconfirmed change, if any; a finished or unknown one is None."""
        reply = self._script("status")
        self._expect(reply, "")
        words = reply.out.split()
        return Pending(id=words[0], seconds_left=max(0, int(words[1]))) if len(words) == 3 else None

    def _staged(self) -> tuple[frr.FrrConfig, frr.FrrConfig]:
        if self._running is None or self._wanted is None:
            raise DeviceError(self.device, "no candidate is loaded", "load one first")
        return self._running, self._wanted

    def _digest(self) -> str:
        return hashlib.sha256(self._running_text.encode()).hexdigest()

    def _check(self, text: str) -> frr.FrrConfig:
        self._running = self._wanted = None
        body = text if text.endswith("\n") else text + "\n"
        reply = self._script("check", str(len(body.encode())), stdin=body)
        if reply.status == _REFUSED:
            line, why = _refused_line(body, reply.err)
            raise CommitRejectedError(self.device, line, why)
        self._expect(reply, "")
        if "\nend" not in reply.out:
            raise DeviceError(self.device, f"does not show its configuration: {_line(reply)}", "is FRR running there?")
        self._running_text, self._running = reply.out, frr.parse(reply.out)
        return self._running

    def _apply(self, verb: str, change_id: str, *words: str, texts: tuple[str, ...]) -> Reply:
        sizes = [str(len(t.encode())) for t in texts]
        reply = self._script(verb, change_id, *words, *sizes, stdin="".join(texts))
        if reply.status == _BUSY:
            held = reply.err.split()
            if held[:1] != [change_id]:
                what = f"change {held[0]} is armed, {held[1]} s left" if len(held) == 2 else "another change is armed"
                raise DeviceBusyError(self.device, what, "confirm it, roll it back, or wait until the device goes back")
            raise DeviceBusyError(self.device, f"change {change_id} is armed already", "load again to see what it left")
        self._expect(reply, change_id)
        return reply

    def _undo_failed(self, change_id: str, left: str, said: str) -> NoReturn:
        """Go back after an apply that did not give what was wanted, and say whether that worked."""
        lines = [line for line in redact(left).splitlines() if line[:2] in {"+ ", "- "}]
        why = next((x.strip() for x in redact(said).splitlines() if x.startswith(("line ", "%"))), "no reply")
        what = f"{counted(len(lines), 'line')} did not take, first {lines[0] if lines else '?'!r} ({why})"
        try:
            self.rollback(change_id)
        except DeviceError as error:
            raise CommitFailedError(self.device, f"{what}; going back failed too: {error.what}", error.todo) from error
        raise CommitFailedError(self.device, what, "the device went back; correct the line")

    def _script(self, verb: str, *words: str, stdin: str = "") -> Reply:
        """Run a verb of commit_confirm.sh on the router, putting the script there when it is not."""
        text, path = _on_device_script()
        command = f"[ -f {path} ] || exit {_NO_SCRIPT}; exec sh {path} {shlex.join([verb, *words])}"
        reply = self._exec(command, stdin)
        if reply.status == _NO_SCRIPT:
            size = len(text.encode())
            put = self._exec(
                f"umask 077; mkdir -p {RUN_FOLDER} && cd {RUN_FOLDER} && cat >put.$$ && [ $(wc -c <put.$$) -eq {size} ]"
                f" && mv put.$$ {path} || {{ rm -f put.$$; exit {_NO_SPACE}; }}",
                text,
            )
            self._expect(put, "")
            reply = self._exec(command, stdin)
        return reply

    def _expect(self, reply: Reply, change_id: str) -> None:
        """Raise what an exit status of the script means."""
        match reply.status:
            case 0:
                return
            case 11:
                raise DeviceError(
                    self.device, f"cannot write to {RUN_FOLDER} (disk full?)", "nothing was changed; make room there"
                )
            case 13:
                todo = "look at its configuration and start again"
                raise NotPendingError(
                    self.device, f"change {change_id} is not pending: the device went back or rebooted", todo
                )
            case 14:
                raise CommitFailedError(self.device, "did not go back to what ran before", "log in and compare by hand")
            case 15:
                raise DeviceError(self.device, "its configuration changed since it was compared", "compare again")
            case 16:
                raise DeviceBusyError(self.device, "another session is changing it right now", "try again in a minute")
            case _:
                raise DeviceError(self.device, f"its commit script failed: {_line(reply)}", "log in and look at FRR")

    def _alive(self) -> bool:
        transport = self._session.remote_conn_pre.get_transport() if self._session is not None else None
        return transport is not None and transport.is_active()

    def _exec(self, command: str, stdin: str = "") -> Reply:
        """Run one command on a channel of its own. A dead session is opened anew before, never in the middle."""
        import paramiko

        if not self._alive():
            self.close()
            self.open()
        transport: paramiko.Transport = self._session.remote_conn_pre.get_transport()
        channel = None
        try:
            channel = transport.open_session(timeout=self.timeout_s)
            channel.settimeout(self.timeout_s)
            channel.exec_command(command)
            try:
                channel.sendall(stdin.encode())
                channel.shutdown_write()
            except OSError:
                if not channel.status_event.wait(1.0):  # the command may have ended without reading
                    raise
            out, err = channel.makefile("rb").read(), channel.makefile_stderr("rb").read()
            if not channel.status_event.wait(self.timeout_s):
                raise TimeoutError
            status = channel.exit_status
        except TimeoutError as error:
            self.close()
            raise DeviceUnreachableError(
                self.device, f"no answer within {self.timeout_s:.0f} s", "ask it what is pending, then repeat"
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            raise DeviceUnreachableError(
                self.device, "the session broke", "ask it what is pending, then repeat"
            ) from error
        finally:
            if channel is not None:
                channel.close()
        if status < 0:
            self.close()
            raise DeviceUnreachableError(self.device, "the session broke", "ask it what is pending, then repeat")
        return Reply(out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), status)


class _BannerMissingError(Exception):
    """sshd closed the connection before its banner: too many logins at once."""


@cache
def _session_class() -> Callable[..., Any]:
    import paramiko
    from netmiko.linux.linux_ssh import LinuxSSH

    class ExecLinux(LinuxSSH):
        """netmiko's Linux session without the interactive shell, which nothing here would read."""

        def _open(self) -> None:
            self.remote_conn_pre = client = self._build_ssh_client()
            parameters = self._connect_params_dict()
            parameters["look_for_keys"] = self.key_file is None
            try:
                client.connect(**parameters)
            except BaseException:
                client.close()
                raise
            transport = client.get_transport()
            if transport is not None:
                transport.set_keepalive(15)

        def disconnect(self) -> None:
            with suppress(paramiko.SSHException, OSError, EOFError):
                self.paramiko_cleanup()

    return ExecLinux


def _connect(device: str, address: str, access: Access) -> Any:
    """Open a session; what goes wrong comes out as our errors, which name no key and no secret."""
    import paramiko

    where = f"{address} port {access.port}"
    try:
        return _session_class()(
            device_type="linux",
            host=address,
            port=access.port,
            username=access.user,
            use_keys=True,
            key_file=access.identity_file,
            allow_agent=access.identity_file is None,
            ssh_strict=True,
            system_host_keys=False,
            alt_host_keys=True,
            alt_key_file=access.known_hosts,
            conn_timeout=10,
            banner_timeout=20,
            auth_timeout=20,
        )
    except paramiko.BadHostKeyException as error:
        raise HostKeyError(
            device,
            f"the host key of {where} is not the known one",
            f"find out why before changing {access.known_hosts}",
        ) from error
    except paramiko.AuthenticationException as error:
        raise LoginRefusedError(
            device, f"{where} refused {access.user!r}", "check the key and the user's rights there"
        ) from error
    except paramiko.SSHException as error:
        text = str(error)
        if "not found in known_hosts" in text:
            raise HostKeyError(
                device, f"the host key of {where} is not known", f"add it to {access.known_hosts}"
            ) from error
        if "banner" in text:
            raise _BannerMissingError(text) from error
        raise DeviceUnreachableError(device, f"no SSH session with {where}: {text}", "look at its sshd") from error
    except EOFError as error:
        raise _BannerMissingError("closed") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DeviceUnreachableError(
            device, f"cannot be reached at {where}: {reason}", "is it up, is the way to it up?"
        ) from error


@cache
def _on_device_script() -> tuple[str, str]:
    """Return the script and its path on a device; the path names its content, so an old one is never run instead."""
    text = files(__package__).joinpath("commit_confirm.sh").read_text("utf-8")
    return text, f"{RUN_FOLDER}/commit_confirm.{hashlib.sha256(text.encode()).hexdigest()[:12]}.sh"


def _refused_line(body: str, reply: str) -> tuple[str, str]:
    """Find the refused line in `line 9: % Unknown command[16]:  ip rooute ...`."""
    for row in reply.splitlines():
        head, _, rest = row.partition(":")
        words = head.split()
        if len(words) == 2 and words[0] == "line" and words[1].isdigit():
            rows = body.splitlines()
            number = int(words[1])
            line = rows[number - 1].strip() if 0 < number <= len(rows) else rest.strip()
            return line, f"line {number}: {rest.partition(':')[0].strip(' %') or 'refused'}"
    return "?", reply.strip().splitlines()[-1] if reply.strip() else "refused without a word"


def _line(reply: Reply) -> str:
    text = redact(reply.err.strip() or reply.out.strip() or f"status {reply.status}").splitlines()
    return text[-1][:200]
