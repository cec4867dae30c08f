from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.certifying import certificate
from valetkey.cli import bundles
from valetkey.cli.bundles import certificates, combine, ensure_authority, pem, problem, public_authorities, trust_at, write_trust
from valetkey.errors import ConfigurationError

PUBLIC = certificate("Public root")
OWN = certificate("mitmproxy")
COMPANY = certificate("Company")


def ders(text):
    return list(certificates(text))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Writes the files for a CA and an environment; gives them, and what the bundle holds."""
    monkeypatch.setattr(bundles, "public_authorities", lambda: PUBLIC)
    authority = tmp_path / "ca.pem"

    def write(own=OWN, environ=None, **options):
        authority.write_text(own)
        return write_trust(authority, tmp_path / "state" / "ledger.db", environ or {}, **options)

    return write


def file(tmp_path, text, name="company.pem"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_a_bundle_holds_the_public_authorities_and_ours(place):
    assert ders(place().bundle.read_text()) == ders(PUBLIC + OWN)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"])
def test_what_was_set_already_is_kept(place, tmp_path, name):
    assert ders(COMPANY)[0] in ders(place(environ={name: file(tmp_path, COMPANY)}).bundle.read_text())


def test_what_was_set_is_kept_when_it_is_made_again(place, tmp_path):
    first = place(environ={"SSL_CERT_FILE": file(tmp_path, COMPANY)}).bundle
    assert place(environ={"SSL_CERT_FILE": str(first)}).bundle.read_text().count("BEGIN") == 3


def test_a_new_authority_takes_the_place_of_the_old_one(place, tmp_path):
    first = place(environ={"SSL_CERT_FILE": file(tmp_path, COMPANY)}).bundle
    new = certificate("mitmproxy", days=366)
    assert ders(place(own=new, environ={"SSL_CERT_FILE": str(first)}).bundle.read_text()) == ders(PUBLIC + COMPANY + new)


def test_another_gateways_authority_is_not_taken_over(place, tmp_path):
    other = certificate("mitmproxy", days=700)
    assert ders(place(environ={"SSL_CERT_FILE": file(tmp_path, other)}).bundle.read_text()) == ders(PUBLIC + OWN)


def test_a_certificate_stands_once(place, tmp_path):
    assert place(environ={"SSL_CERT_FILE": file(tmp_path, PUBLIC + COMPANY + COMPANY)}).bundle.read_text().count("BEGIN") == 3


def test_a_leaf_is_refused(place, tmp_path):
    leaf = certificate("server", ca=False)
    made = place(environ={"SSL_CERT_FILE": file(tmp_path, leaf)})
    assert ders(made.bundle.read_text()) == ders(PUBLIC + OWN) and "CN=server is no certificate authority" in made.notices[0]


def test_a_file_that_is_gone_is_told_of(place):
    assert "cannot be read" in place(environ={"SSL_CERT_FILE": "/nowhere/ca.pem"}).notices[0]


def test_the_adding_file_is_the_authority_itself(place):
    made = place(environ={"SSL_CERT_FILE": "x"})
    assert made.added == made.authority


def test_what_was_added_before_is_added_still(place, tmp_path):
    made = place(environ={"NODE_EXTRA_CA_CERTS": file(tmp_path, COMPANY)})
    assert ders(made.added.read_text()) == ders(COMPANY + OWN)


def test_files_are_for_all_to_read(place):
    assert place().bundle.stat().st_mode & 0o777 == 0o644


def test_a_mode_that_was_changed_is_set_again(place):
    place().bundle.chmod(0o600)
    assert place().bundle.stat().st_mode & 0o777 == 0o644


def test_a_bundle_that_is_right_is_not_written_again(place):
    before = place().bundle.stat()
    assert place().bundle.stat().st_ino == before.st_ino


def test_nothing_is_left_beside_the_bundle(place):
    assert [path.name for path in place().bundle.parent.iterdir()] == ["ca-bundle.pem"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "state").touch()
    (tmp_path / "ca.pem").write_text(OWN)
    with pytest.raises(ConfigurationError, match="cannot be made"):
        write_trust(tmp_path / "ca.pem", tmp_path / "state" / "ledger.db", {})


@pytest.mark.parametrize(("ledger", "bundle"), [("ledger.db", "ca-bundle.pem"), ("ci.db", "ci.ca-bundle.pem")])
def test_each_instance_has_its_own(ledger, bundle):
    assert trust_at(Path("ca.pem"), Path("/x") / ledger).bundle == Path("/x") / bundle


def test_openssl_reads_a_bundle(place):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(place().bundle)
    assert len(context.get_ca_certs()) == 2


def test_java_gets_the_same_authorities(place):
    made = place(java=True)
    command = ["keytool", "-list", "-keystore", str(made.java), "-storepass", bundles.JAVA_PASSWORD]
    try:
        listed = subprocess.run(command, capture_output=True, text=True).stdout
    except FileNotFoundError:
        pytest.skip("no Java here")
    assert "2 entries" in listed


def test_the_file_for_java_is_not_made_again(place):
    before = place(java=True).java.read_bytes()
    assert place(java=True).java.read_bytes() == before


def test_the_public_authorities_of_this_system_are_found():
    assert len(ders(public_authorities())) > 50


def test_without_a_system_file_certifi_has_them(monkeypatch):
    monkeypatch.setattr(bundles, "_SYSTEM", (Path("/nowhere"),))
    assert len(ders(public_authorities())) > 50


def test_an_authority_is_made_when_there_is_none(tmp_path):
    assert problem(ders(ensure_authority(tmp_path / "ca").read_text())[0]) is None


def test_a_leaf_is_no_authority_of_ours(tmp_path):
    ensure_authority(tmp_path)
    (tmp_path / "mitmproxy-ca-cert.pem").write_text(certificate("leaf", ca=False))
    with pytest.raises(ConfigurationError, match="no certificate authority"):
        ensure_authority(tmp_path)


@pytest.mark.parametrize("confdir", ["file/ca", "file"])
def test_an_authority_that_cannot_be_made_is_said(tmp_path, confdir):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError):
        ensure_authority(tmp_path / confdir)


@pytest.mark.parametrize(("ca", "fine"), [(True, True), (False, False), (None, True)])
def test_an_authority_is_known_by_its_constraints(ca, fine):
    assert (problem(ders(certificate("x", ca=ca))[0]) is None) is fine


def test_rubbish_is_no_authority():
    assert "cannot be read" in problem(b"\x30\x01\x00")


@pytest.mark.parametrize(
    "text",
    [
        COMPANY.replace("\n", "\r\n"),
        "Company\n=====\n" + COMPANY,
        COMPANY.replace("CERTIFICATE", "X509 CERTIFICATE"),
        "\n".join(f"  {line}" for line in COMPANY.splitlines()),
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n" + COMPANY,
    ],
    ids=["CRLF", "a title", "an old name", "indented", "after a broken one"],
)
def test_every_spelling_of_pem_is_read(text):
    assert ders(text) == ders(COMPANY)


def test_openssls_additions_are_cut_off():
    der = ders(COMPANY)[0]
    trusted = pem(der + b"\x30\x02\x05\x00").replace("CERTIFICATE", "TRUSTED CERTIFICATE")
    assert ders(trusted) == [der]


def test_what_is_combined_is_read_again():
    assert ders(combine(PUBLIC, ders(COMPANY), ders(OWN)[0])) == ders(PUBLIC + COMPANY + OWN)


@given(st.binary(max_size=80))
def test_any_bytes_in_pem_are_passed_over_or_read_alike(data):
    again = "".join(pem(der) + "\n" for der in ders(pem(data)))
    assert ders(again) == ders(pem(data))


@given(st.text(max_size=200))
def test_any_text_is_read(text):
    assert ders(text) == []
