from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from valetkey.catalog.loader import FOLDER
from valetkey.catalog.schema import ProviderFile


def broken(path, value):
    """Groq's file with one value changed; `path` leads to it."""
    document = yaml.safe_load((FOLDER / "groq.yaml").read_text())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("hosts",), ["API.groq.com"]),
        (("hosts",), ["api.groq.com."]),
        (("hosts",), ["https://api.groq.com"]),
        (("upstream",), "http://api.groq.com"),
        (("upstream",), "https://api.groq.com/openai"),
        (("env",), ["groq-key"]),
        (("env",), []),
        (("surfaces",), []),
        (("surfaces", 0, "base"), "/openai/v1/"),
        (("surfaces", 0, "source"), "http://insecure.test"),
        (("surfaces", 0, "endpoints", 0, "format"), "telepathy"),
        (("surfaces", 0, "endpoints", 0, "path"), "chat"),
        (("surfaces", 0, "endpoints", 0, "model"), "path"),
        (("surfaces", 0, "endpoints", 0, "methods"), ["TRACE"]),
        (("errors", "rules", 0), {"outcome": "bad_key"}),
        (("usage", "counts", "speech"), {"input_characters": ["a b"]}),
        (("usage", "guesses", "transcription"), [{"audio_seconds": {"place": "request.bytes", "per": "0"}}]),
        (("usage", "unit_prices"), {"list": [{"models": ["x"], "per": {"images": "1"}}]}),
        (("usage", "unit_prices"), {"source": "https://x.test", "list": [{"models": ["x"], "per": {}}]}),
        (("usage", "batch"), {"factor": "0.5"}),
        (("usage", "batch", "factor"), "-1"),
        (("surfaces", 0, "endpoints", 0, "results"), {"flavors": ["chat"]}),
        (("surfaces", 0, "endpoints", 0, "results"), {"flavors": [], "source": "https://x.test"}),
        (("surfaces", 0, "endpoints", 0, "deferred"), "a b"),
        (("errors", "rules", 0, "outcome"), "sad"),
        (("include_usage_source",), None),
        (("surprise",), 1),
        (("keys",), "no"),
        (("include_usage",), 1),
        (("min_key_length",), "16"),
        (("min_key_length",), 0),
        (("errors", "rules", 0, "status"), ["429"]),
        (("errors", "rules", 0, "status"), [200]),
        (("errors", "rules", 0, "rest"), "60"),
        (("errors", "rules", 0, "rest"), 0),
        (("errors", "rules", 0, "rest"), 32 * 86_400),
        (("errors", "rules", 0, "least"), -1),
        (("errors", "rules", 0, "page"), "yes"),
        (("errors", "rules", 0, "header_begins"), "x"),
        (("regions",), ["us-east-1"]),
        (("hosts",), ["api.{region}.groq.com"]),
        (("errors", "source"), None),
        (("limits", "source"), None),
        (("limits", "headers"), []),
        (("limits", "headers", 0), {"dimension": "requests", "limit": "x-limit"}),
        (("limits", "headers", 0, "format"), "telepathy"),
        (("limits", "headers", 0, "format"), None),
        (("limits", "headers", 0, "reset"), None),
        (("limits", "headers", 0, "reset"), "X-RateLimit-Reset"),
        (("limits", "headers", 0, "dimension"), "tokens"),
        (("usage", "like"), "openai"),
        (("surfaces", 0, "auth", "header"), "Authorization: Bearer"),
        (("surfaces", 0, "same_as"), "openai"),
        (("surfaces", 0, "endpoints", 0, "path"), "/chat/{model"),
        (("surfaces", 0, "endpoints", 1, "path"), "/chat/completions"),
        (("surfaces", 0, "base"), "/{Project}"),
        (("surfaces", 0, "base"), "/v1{region}"),
        (("upstream",), None),
        (("tenant_hosts",), ["*.example.com"]),
    ],
)
def test_what_does_not_fit_is_refused(path, value):
    with pytest.raises(ValidationError):
        ProviderFile.model_validate(broken(path, value))


def test_surfaces_have_names_of_their_own():
    document = broken(("title",), "Groq")
    document["surfaces"].append(document["surfaces"][0])
    with pytest.raises(ValidationError, match="surface openai is there twice"):
        ProviderFile.model_validate(document)


def test_endpoints_have_names_of_their_own():
    with pytest.raises(ValidationError, match="endpoint chat_completions is there twice"):
        ProviderFile.model_validate(broken(("surfaces", 0, "endpoints", 1, "name"), "chat_completions"))


def test_the_name_of_an_endpoint_is_made_of_its_path():
    file = ProviderFile.model_validate(broken(("title",), "Groq"))
    assert "models_model" in [endpoint.own_name for endpoint in file.surfaces[0].endpoints]


def test_plain_http_is_for_loopback():
    document = yaml.safe_load((FOLDER / "ollama.yaml").read_text())
    assert ProviderFile.model_validate(document).upstream.startswith("http://127.0.0.1")


@pytest.mark.parametrize("seconds", [60, 0.5])
def test_a_rest_is_a_number_of_seconds(seconds):
    file = ProviderFile.model_validate(broken(("errors", "rules", 0, "rest"), seconds))
    assert file.errors.rules[0].rest == seconds


def test_a_provider_need_not_tell_of_limits():
    document = broken(("title",), "Groq")
    del document["limits"]
    assert ProviderFile.model_validate(document).limits is None


def regional(**changes):
    """Bedrock's file with some members changed; None takes one away."""
    document = yaml.safe_load((FOLDER / "bedrock.yaml").read_text()) | changes
    return {name: value for name, value in document.items() if value is not None}


def test_a_host_is_there_for_each_region():
    file = ProviderFile.model_validate(regional(hosts=["a.{region}.test"], regions=["x-1", "y-1"]))
    assert file.own_hosts == ("a.x-1.test", "a.y-1.test")


@pytest.mark.parametrize(
    "changes", [{"regions_source": None}, {"regions": ["x-1", "x-1"]}, {"regions": ["*"]}, {"regions": None}]
)
def test_regions_are_names_with_a_source(changes):
    with pytest.raises(ValidationError):
        ProviderFile.model_validate(regional(**changes))


def unplaced(**words):
    """Azure's file with some words changed."""
    return yaml.safe_load((FOLDER / "azure.yaml").read_text()) | words


@pytest.mark.parametrize("host", ["*.com", "*", "a*.openai.azure.com", "*.*.azure.com", "openai.azure.com", "*.OpenAI.azure.com"])
def test_hosts_of_tenants_are_below_one_domain(host):
    with pytest.raises(ValidationError, match="hosts of tenants"):
        ProviderFile.model_validate(unplaced(tenant_hosts=[host]))


@pytest.mark.parametrize("words", [{"upstream": "https://acme.openai.azure.com"}, {"hosts": ["acme.openai.azure.com"]}])
def test_hosts_that_anybody_can_register_go_with_no_place(words):
    with pytest.raises(ValidationError):
        ProviderFile.model_validate(unplaced(**words))
