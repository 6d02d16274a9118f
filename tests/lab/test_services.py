"""Servers answer as the inventory says, with certificates from the lab's own authority."""

from cryptography import x509

from addressing.plan import make_plan
from inventory.model import Protocol
from inventory.reader import load_county
from inventory.topology import build_topology
from lab.keys import Authority, make_ssh_key
from lab.services import nginx_files, server_ipv4, services_of, unbound_config
from tests.lab_fixture import SAMPLE


def test_every_service_has_its_marker() -> None:
    """The answer of each web and TCP service holds the service's id, and no other server offers it."""
    county = load_county(SAMPLE)
    authority = Authority("test")
    for server in county.servers:
        offered = [s for s in services_of(county, server) if s.protocol is not Protocol.DNS]
        text = nginx_files(offered, authority).get("/etc/extranet/nginx.conf", "")
        for service in offered:
            assert f'return 200 "{service.id}\\n"' in text or f'return "{service.id} ready\\n"' in text
        assert bool(text) == bool(offered)


def test_certificates_are_for_their_name_and_signed_by_the_lab() -> None:
    """A service's certificate names it alone and verifies against the lab's CA."""
    authority = Authority("test")
    certificate, key = authority.issue("portal.example")
    parsed = x509.load_pem_x509_certificate(certificate.encode())
    parsed.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.encode()))
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["portal.example"]
    assert key.startswith("-----BEGIN PRIVATE KEY-----")


def test_the_name_server_knows_every_service_in_both_families() -> None:
    """Each service has its AAAA record, and its A record where its server has IPv4."""
    county = load_county(SAMPLE)
    plan = make_plan(county, build_topology(county))
    text = unbound_config(county, plan)
    for service in county.services:
        server = county.server_by_id[service.server]
        six = plan.host6(server.site, server.plane, server.host).ip
        assert f'"{service.dns_name}. 60 IN AAAA {six}"' in text
        four = server_ipv4(county, plan, server)
        assert (
            (f'"{service.dns_name}. 60 IN A {four.ip}"' in text)
            if four
            else (f"{service.dns_name}. 60 IN A " not in text)
        )


def test_keys_are_never_made_twice() -> None:
    """Two labs, two nodes: never the same key."""
    assert make_ssh_key("a").public.split()[1] != make_ssh_key("a").public.split()[1]
