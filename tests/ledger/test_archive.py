from __future__ import annotations

import base64
import json

import pytest

from valetkey.ledger import Archive, purge_archive
from valetkey.ledger.archive import LIMIT

REQUEST = {"method": "POST", "url": "https://x.test/v1?key=abc&n=1", "headers": [["Authorization", "Bearer abc"]], "body": b"hi"}
RESPONSE = {"status": 200, "headers": [["set-cookie", "abc"], ["x-request-id", "1"]], "body": b"hello"}
DAY = 1_795_219_200.0  # 2026-11-21


def written(tmp_path, request=REQUEST, response=RESPONSE):
    archive = Archive(tmp_path / "kept", pytest.fail)
    archive.write("1", DAY, request, response)
    archive.close()
    return json.loads((tmp_path / "kept" / "2026-11-21.jsonl").read_text())


def test_a_call_is_a_line(tmp_path):
    record = written(tmp_path)
    assert (record["id"], record["request"]["body"], record["response"]["body"]) == ("1", "hi", "hello")


def test_no_credential_is_kept(tmp_path):
    assert "abc" not in json.dumps(written(tmp_path))


def test_everything_else_is(tmp_path):
    record = written(tmp_path)
    assert record["request"]["url"].endswith("&n=1") and ["x-request-id", "1"] in record["response"]["headers"]


def test_a_call_without_answer_is_kept(tmp_path):
    assert written(tmp_path, response=None)["response"] is None


def test_bytes_are_base64(tmp_path):
    response = written(tmp_path, response=RESPONSE | {"body": b"\xff\x00"})["response"]
    assert base64.b64decode(response["body"]) == b"\xff\x00"


def test_a_large_body_is_cut_and_says_so(tmp_path):
    response = written(tmp_path, response=RESPONSE | {"body": b"x" * (LIMIT + 1)})["response"]
    assert (len(response["body"]), response["truncated"]) == (LIMIT, LIMIT + 1)


def test_the_files_are_private(tmp_path):
    written(tmp_path)
    folder = tmp_path / "kept"
    assert folder.stat().st_mode & 0o77 == 0 and next(folder.iterdir()).stat().st_mode & 0o77 == 0


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path):
    (tmp_path / "kept").touch()
    said = []
    archive = Archive(tmp_path / "kept", said.append)
    for _ in range(3):
        archive.write("1", DAY, REQUEST, RESPONSE)
    archive.close()
    assert len(said) == 1


def test_whole_days_are_purged(tmp_path):
    for day in ("2026-11-19", "2026-11-20", "2026-11-21", "notes"):
        (tmp_path / f"{day}.jsonl").touch()
    assert purge_archive(tmp_path, DAY) == 2 and len(list(tmp_path.iterdir())) == 2
