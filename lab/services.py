"""What servers run: nginx for web and plain TCP services, unbound as the name server. Every answer carries a marker."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface

from addressing.model import AddressPlan
from inventory.model import County, PlaneKind, Protocol, Server, Service
from lab.kernel import STREAM_MODULE
from lab.keys import Authority

FOLDER = "/etc/extranet"
_NAME_TTL_S = 60


def services_of(county: County, server: Server) -> tuple[Service, ...]:
    """Return the services a server offers."""
    return tuple(s for s in county.services if s.server == server.id)


def server_ipv4(county: County, plan: AddressPlan, server: Server) -> IPv4Interface | None:
    """Return a server's IPv4: in its department's legacy LAN, or the extranet's own in public and shared planes."""
    if county.plane_by_id[server.plane].kind is not PlaneKind.DEDICATED:
        return plan.host4(server.site, server.plane, server.host)
    unit = county.unit_by_lan.get((server.site, server.plane))
    if unit is None:
        return None
    return IPv4Interface((unit.lan_prefix.network_address + server.host, unit.lan_prefix.prefixlen))


def nginx_files(services: Iterable[Service], authority: Authority) -> dict[str, str]:
    """Return the files of a server's nginx, by path; empty when it offers nothing that nginx serves."""
    services = list(services)
    web = [s for s in services if s.protocol is Protocol.HTTPS]
    plain = [s for s in services if s.protocol is Protocol.TCP]
    files: dict[str, str] = {}
    if not web and not plain:
        return files
    lines = [
        f"load_module {STREAM_MODULE};",
        "user www-data;",
        "worker_processes 1;",
        "pid /run/nginx.pid;",
        "error_log /var/log/nginx/error.log;",
        "events { worker_connections 512; }",
    ]
    if web:
        lines += ["http {", "  access_log off;", "  server_tokens off;", "  default_type text/plain;"]
        lines += ["  ssl_protocols TLSv1.2 TLSv1.3;"]
        for port in sorted({s.port for s in web}):
            lines += [
                "  server {",
                f"    listen {port} ssl default_server;",
                f"    listen [::]:{port} ssl default_server;",
                "    ssl_reject_handshake on;",
                "  }",
            ]
        for s in web:
            certificate, key = authority.issue(s.dns_name)
            files[f"{FOLDER}/tls/{s.id}.pem"] = certificate
            files[f"{FOLDER}/tls/{s.id}.key"] = key
            lines += [
                "  server {",
                f"    listen {s.port} ssl;",
                f"    listen [::]:{s.port} ssl;",
                f"    server_name {s.dns_name};",
                f"    ssl_certificate {FOLDER}/tls/{s.id}.pem;",
                f"    ssl_certificate_key {FOLDER}/tls/{s.id}.key;",
                f'    location / {{ add_header X-Service {s.id} always; return 200 "{s.id}\\n"; }}',
                "  }",
            ]
        lines.append("}")
    if plain:
        lines.append("stream {")
        for s in plain:
            lines.append(f'  server {{ listen {s.port}; listen [::]:{s.port}; return "{s.id} ready\\n"; }}')
        lines.append("}")
    files[f"{FOLDER}/nginx.conf"] = "\n".join(lines) + "\n"
    return files


def unbound_config(county: County, plan: AddressPlan) -> str:
    """Return the name server's configuration: every service's addresses, for the county's own networks only."""
    allowed = [str(plan.pool), str(plan.ipv4_pool), "::1/128", "127.0.0.0/8"]
    allowed += sorted({str(p) for n in county.networks for p in n.prefixes})
    lines = [
        "server:",
        "interface: 0.0.0.0",
        "interface: ::0",
        "do-daemonize: yes",
        'chroot: ""',
        'username: "unbound"',
        'directory: "/etc/extranet"',
        'pidfile: "/run/unbound.pid"',
        "use-syslog: no",
        'logfile: "/var/log/unbound.log"',
        "num-threads: 1",
        "msg-cache-size: 1m",
        "rrset-cache-size: 1m",
        'module-config: "iterator"',
        "hide-version: yes",
        "access-control: 0.0.0.0/0 refuse",
        "access-control: ::0/0 refuse",
        *(f"access-control: {net} allow" for net in allowed),
        'local-zone: "." refuse',
        f'local-zone: "{county.policy.dns_domain}." static',
    ]
    for s in county.services:
        server = county.server_by_id.get(s.server)
        if server is None:
            continue
        address6 = plan.host6(server.site, server.plane, server.host).ip
        lines.append(f'local-data: "{s.dns_name}. {_NAME_TTL_S} IN AAAA {address6}"')
        address4 = server_ipv4(county, plan, server)
        if address4 is not None:
            lines.append(f'local-data: "{s.dns_name}. {_NAME_TTL_S} IN A {address4.ip}"')
    lines += ["remote-control:", "control-enable: no"]
    return "\n".join(lines) + "\n"
