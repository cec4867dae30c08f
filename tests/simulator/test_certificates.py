from __future__ import annotations

from cryptography import x509

from valetkey.simulator import make_authority


def certificate(tmp_path):
    return x509.load_pem_x509_certificate(make_authority(tmp_path, ["api.openai.com"]).cert.read_bytes())


def names(tmp_path):
    return certificate(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_the_certificate_names_the_hosts(tmp_path):
    assert "api.openai.com" in names(tmp_path).get_values_for_type(x509.DNSName)


def test_the_certificate_is_short_lived(tmp_path):
    made = certificate(tmp_path)
    assert (made.not_valid_after_utc - made.not_valid_before_utc).days == 31


def test_the_key_is_private(tmp_path):
    assert make_authority(tmp_path, ["x.test"]).key.stat().st_mode & 0o077 == 0
