"""One well-known call of each provider, as its documentation or a recording has it, and the errors that it answers with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

OPENAI_USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
COUNTED = {"input_tokens": 100, "output_tokens": 20}
RESOURCE = "https://acme.openai.azure.com"
LOCAL = "http://127.0.0.1:18000"
PLACED = {"azure": RESOURCE, "vllm": LOCAL, "lm_studio": "http://127.0.0.1:18001", "llama_cpp": "http://127.0.0.1:18002"}
"""The upstreams that rules have to name."""
PROJECT = "/v1/projects/acme/locations/us-central1"


def chat(model: str, usage: dict[str, Any] = OPENAI_USAGE) -> dict[str, Any]:
    """An answer in OpenAI's chat format."""
    message = {"role": "assistant", "content": "4"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


@dataclass(frozen=True)
class Call:
    """A call to `provider`, what the gateway must see in it, and an answer to it with its usage."""

    provider: str
    host: str
    path: str
    format: str
    model: str
    answer: dict[str, Any]
    usage: dict[str, int] = field(default_factory=lambda: COUNTED)
    carrier: str = "authorization"
    prefix: str = "Bearer "
    priced: bool = True
    in_path: bool = False

    @property
    def body(self) -> bytes:
        """The request."""
        named = {} if self.in_path else {"model": self.model}
        return json.dumps(named | {"messages": [{"role": "user", "content": "2+2?"}]}).encode()


def _chat(provider: str, host: str, path: str, model: str, **more: Any) -> Call:
    return Call(provider, host, path, "openai_chat", model, more.pop("answer", None) or chat(model), **more)


def _messages(provider: str, host: str, path: str, model: str, **more: Any) -> Call:
    usage = {"input_tokens": 60, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 0, "output_tokens": 20}
    content = [{"type": "text", "text": "4"}]
    answer = {"id": "m1", "type": "message", "role": "assistant", "model": model, "content": content, "usage": usage}
    counted = {"input_tokens": 100, "cache_read_tokens": 40, "output_tokens": 20}
    return Call(provider, host, path, "anthropic_messages", model, answer, counted, **more)


_GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "4"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 15, "thoughtsTokenCount": 5, "totalTokenCount": 120},
    "modelVersion": "gemini-2.5-flash",
}
_COHERE = {
    "id": "c14c80c3",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "4"}]},
    "usage": {"billed_units": {"input_tokens": 100, "output_tokens": 20}, "tokens": {"input_tokens": 130, "output_tokens": 22}},
}
_GROK = {**OPENAI_USAGE, "completion_tokens_details": {"reasoning_tokens": 30}, "total_tokens": 150}
_SONAR = {**OPENAI_USAGE, "search_context_size": "low", "cost": {"input_tokens_cost": 0.0001, "total_cost": 0.005}}
_HOST = "aiplatform.googleapis.com"
_GOOGLE = PROJECT + "/publishers/google/models/"
_CLAUDE = PROJECT + "/publishers/anthropic/models/"
_DEPLOYED = "/openai/deployments/gpt-4o/"

CALLS = [
    _chat(
        "xai",
        "api.x.ai",
        "/v1/chat/completions",
        "grok-3",
        answer=chat("grok-3", _GROK),
        usage={"input_tokens": 100, "output_tokens": 50, "output_reasoning_tokens": 30},
    ),
    _chat("together", "api.together.xyz", "/v1/chat/completions", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    _chat("together", "api.together.ai", "/v1/chat/completions", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    _chat("fireworks", "api.fireworks.ai", "/inference/v1/chat/completions", "accounts/fireworks/models/deepseek-v3p2"),
    _messages("fireworks", "api.fireworks.ai", "/inference/v1/messages", "accounts/fireworks/models/deepseek-v3p2"),
    _chat("cerebras", "api.cerebras.ai", "/v1/chat/completions", "gpt-oss-120b"),
    _chat("cohere", "api.cohere.com", "/compatibility/v1/chat/completions", "command-a-03-2025"),
    Call("cohere", "api.cohere.ai", "/v2/chat", "openai_other", "command-a-03-2025", _COHERE),
    _chat("perplexity", "api.perplexity.ai", "/chat/completions", "sonar-pro", answer=chat("sonar-pro", _SONAR)),
    _chat("moonshot", "api.moonshot.ai", "/v1/chat/completions", "kimi-k2-0905-preview"),
    _messages("moonshot", "api.moonshot.ai", "/anthropic/v1/messages", "kimi-k2-0905-preview"),
    _chat("zai", "api.z.ai", "/api/paas/v4/chat/completions", "glm-4.6"),
    _chat("zai", "api.z.ai", "/api/coding/paas/v4/chat/completions", "glm-4.6"),
    _messages("zai", "api.z.ai", "/api/anthropic/v1/messages", "glm-4.6"),
    _chat("minimax", "api.minimax.io", "/v1/chat/completions", "MiniMax-M2"),
    _messages("minimax", "api.minimax.io", "/anthropic/v1/messages", "MiniMax-M2"),
    _chat("nvidia", "integrate.api.nvidia.com", "/v1/chat/completions", "meta/llama-3.3-70b-instruct", priced=False),
    _chat("huggingface", "router.huggingface.co", "/v1/chat/completions", "deepseek-ai/DeepSeek-R1:together", priced=False),
    _chat("huggingface", "router.huggingface.co", "/together/v1/chat/completions", "deepseek-ai/DeepSeek-R1", priced=False),
    Call(
        "voyage",
        "api.voyageai.com",
        "/v1/embeddings",
        "openai_embeddings",
        "voyage-3.5",
        {"object": "list", "model": "voyage-3.5", "data": [], "usage": {"total_tokens": 3}},
        {},
        priced=False,
    ),
    _chat("chutes", "llm.chutes.ai", "/v1/chat/completions", "deepseek-ai/DeepSeek-V3-0324", priced=False),
    _chat("sambanova", "api.sambanova.ai", "/v1/chat/completions", "Meta-Llama-3.3-70B-Instruct", priced=False),
    _chat("novita", "api.novita.ai", "/openai/v1/chat/completions", "deepseek/deepseek-r1"),
    _chat("novita", "api.novita.ai", "/v3/openai/chat/completions", "deepseek/deepseek-r1"),
    _messages("novita", "api.novita.ai", "/anthropic/v1/messages", "zai-org/glm-4.6"),
    _chat(
        "deepinfra",
        "api.deepinfra.com",
        "/v1/openai/chat/completions",
        "deepseek-ai/DeepSeek-V3",
        answer=chat("deepseek-ai/DeepSeek-V3", {**OPENAI_USAGE, "estimated_cost": 0.0001}),
    ),
    _chat("github_models", "models.github.ai", "/inference/chat/completions", "openai/gpt-4.1", priced=False),
    _chat("github_models", "models.github.ai", "/orgs/acme/inference/chat/completions", "openai/gpt-4.1", priced=False),
    _chat("vllm", LOCAL, "/v1/chat/completions", "llama-3.3-70b", priced=False),
    _chat("lm_studio", PLACED["lm_studio"], "/v1/chat/completions", "qwen3-8b", priced=False),
    _chat("llama_cpp", PLACED["llama_cpp"], "/v1/chat/completions", "qwen3-8b", priced=False),
    _chat("azure", "acme.openai.azure.com", _DEPLOYED + "chat/completions", "gpt-4o", carrier="api-key", prefix="", in_path=True),
    _chat("azure", "acme.openai.azure.com", "/openai/v1/chat/completions", "gpt-4o", carrier="api-key", prefix=""),
    Call(
        "azure",
        "acme.openai.azure.com",
        _DEPLOYED + "embeddings",
        "openai_embeddings",
        "gpt-4o",
        {"object": "list", "model": "text-embedding-3-small", "data": [], "usage": {"prompt_tokens": 100, "total_tokens": 100}},
        {"input_tokens": 100},
        "api-key",
        "",
        in_path=True,
    ),
    _messages("azure", "acme.openai.azure.com", "/anthropic/v1/messages", "claude-sonnet-4-5", carrier="x-api-key", prefix=""),
    Call(
        "vertex_ai",
        f"us-central1-{_HOST}",
        _GOOGLE + "gemini-2.5-flash:generateContent",
        "gemini_generate",
        "gemini-2.5-flash",
        _GEMINI,
        {"input_tokens": 100, "output_tokens": 20, "output_reasoning_tokens": 5},
        in_path=True,
    ),
    Call(
        "vertex_ai",
        _HOST,
        "/v1beta1/projects/acme/locations/global/publishers/google/models/gemini-2.5-flash:generateContent",
        "gemini_generate",
        "gemini-2.5-flash",
        _GEMINI,
        {"input_tokens": 100, "output_tokens": 20, "output_reasoning_tokens": 5},
        in_path=True,
    ),
    _messages(
        "vertex_ai",
        f"us-east5-{_HOST}",
        _CLAUDE + "claude-sonnet-4-5@20250929:rawPredict",
        "claude-sonnet-4-5@20250929",
        in_path=True,
    ),
    _messages(
        "vertex_ai",
        f"europe-west1-{_HOST}",
        _CLAUDE + "claude-sonnet-4-5@20250929:streamRawPredict",
        "claude-sonnet-4-5@20250929",
        in_path=True,
    ),
    _chat(
        "vertex_ai",
        f"us-central1-{_HOST}",
        PROJECT + "/endpoints/openapi/chat/completions",
        "google/gemini-2.5-flash",
        priced=False,  # the list does not know the publisher in front
    ),
]


def _error(message: str, type: str | None = None, code: object = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def _google(status: str, message: str) -> dict[str, Any]:
    return {"error": {"code": 0, "message": message, "status": status}}


_LONG = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."
_FLAT = "Please reduce the length of the messages or completion."
_AZURE_429 = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token rate limit "
    "of your current OpenAI S0 pricing tier. Please retry after 6 seconds. Please contact Azure support service if you would "
    "like to further increase the default rate limit."
)

ERRORS = [
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***23."}, "bad_key"),
    (
        "xai",
        400,
        {"code": "invalid", "error": "This model's maximum prompt length is 131072 but the request contains 150000"},
        "too_long",
    ),
    (
        "xai",
        403,
        {"code": "denied", "error": "Your team has used all available credits or reached its monthly spending limit."},
        "quota",
    ),
    ("xai", 403, {"code": "denied", "error": "Content violates usage guidelines."}, "policy"),
    (
        "xai",
        429,
        {"code": "exhausted", "error": "Too many requests for team. Your rate limit is 480 requests per minute"},
        "throttled",
    ),
    ("xai", 422, {"code": "x", "error": "Failed to deserialize the JSON body"}, "client"),
    ("together", 401, _error("Invalid API key provided", "invalid_request_error", "invalid_api_key"), "bad_key"),
    ("together", 402, _error("Credit limit exceeded, please navigate to https://api.together.ai/settings/billing"), "quota"),
    ("together", 403, _error("Input token count plus max_tokens must be less than the context length"), "too_long"),
    ("together", 422, _error("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193"), "too_long"),
    ("together", 429, _error("You have reached the rate limit specific to this model", "model_rate_limit"), "throttled"),
    ("together", 503, _error("The server is overloaded", "server_error"), "overloaded"),
    ("together", 524, {}, "timeout"),
    ("fireworks", 401, _error("invalid API key"), "bad_key"),
    ("fireworks", 402, {}, "quota"),
    ("fireworks", 404, _error("Model not found, inaccessible, and/or not deployed", "error", "NOT_FOUND"), "client"),
    ("fireworks", 412, _error("Account acme is suspended, possibly due to reaching the monthly spending limit"), "quota"),
    ("fireworks", 400, _error("The prompt is too long: 200000, model maximum context length: 163839"), "too_long"),
    ("fireworks", 429, {"error": "rate limit exceeded, please try again later"}, "throttled"),
    ("cerebras", 401, {"message": "Wrong API Key", "type": "invalid_request_error", "code": "wrong_api_key"}, "bad_key"),
    (
        "cerebras",
        400,
        {"message": f"{_FLAT} Current length is 9000 while limit is 8192", "code": "context_length_exceeded"},
        "too_long",
    ),
    (
        "cerebras",
        404,
        {"message": "Model nope does not exist or you do not have access to it.", "code": "model_not_found"},
        "client",
    ),
    ("cerebras", 429, {"message": "We're experiencing high traffic right now!", "code": "queue_exceeded"}, "overloaded"),
    ("cerebras", 429, {"message": "Requests per minute limit exceeded", "code": "request_quota_exceeded"}, "throttled"),
    ("cerebras", 402, {"message": "Payment required"}, "quota"),
    ("cohere", 401, {"id": "x", "message": "invalid api token"}, "bad_key"),
    ("cohere", 400, {"message": "too many tokens: total number of tokens cannot exceed 4096"}, "too_long"),
    ("cohere", 429, {"message": "You are using a Trial key, which is limited to 20 API calls / minute."}, "throttled"),
    ("cohere", 429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}, "quota"),
    ("cohere", 402, {"message": "Please add or update your payment method"}, "quota"),
    ("cohere", 499, {}, "server"),
    ("perplexity", 401, _error("Invalid API key", "invalid_api_key", 401), "bad_key"),
    ("perplexity", 401, _error("You exceeded your current quota, please check your plan", "insufficient_quota", 401), "quota"),
    (
        "perplexity",
        429,
        _error("Request rate limit exceeded, please try again later.", "request_rate_limit_exceeded"),
        "throttled",
    ),
    (
        "perplexity",
        400,
        _error("Invalid model 'x'. Permitted models can be found in the documentation", "invalid_model"),
        "client",
    ),
    ("moonshot", 401, _error("Invalid Authentication", "invalid_authentication_error"), "bad_key"),
    ("moonshot", 429, _error("Your account is suspended due to insufficient balance", "exceeded_current_quota_error"), "quota"),
    (
        "moonshot",
        429,
        _error("Your account reached organization max RPM: 3, please try again after 1 seconds", "rate_limit_reached_error"),
        "throttled",
    ),
    (
        "moonshot",
        429,
        _error("The engine is currently overloaded, please try again later", "engine_overloaded_error"),
        "overloaded",
    ),
    (
        "moonshot",
        400,
        _error("Invalid request: Your request exceeded model token limit: 262144", "invalid_request_error"),
        "too_long",
    ),
    ("moonshot", 400, _error("The request was rejected because it was considered high risk", "content_filter"), "policy"),
    ("zai", 401, _error("token expired or incorrect", code="401"), "bad_key"),
    ("zai", 429, _error("Insufficient balance or no resource package. Please recharge.", code="1113"), "quota"),
    ("zai", 429, _error("High concurrency usage of this API, please reduce concurrency", code="1302"), "throttled"),
    ("zai", 429, _error("Usage limit reached for 5 hour. Your limit will reset at 2025-11-21 23:11:11", code="1308"), "quota"),
    ("zai", 429, _error("The service may be temporarily overloaded, please try again later", code="1305"), "overloaded"),
    ("zai", 429, _error("Your account has been locked", code="1112"), "bad_key"),
    ("zai", 400, _error("Prompt exceeds max length", code="1261"), "too_long"),
    ("zai", 400, _error("System detected potentially unsafe content", code="1301"), "policy"),
    ("zai", 400, _error("Unknown Model, please check the model code.", code="1211"), "client"),
    ("minimax", 401, {"type": "error", "error": {"type": "authentication_error", "message": "login fail"}}, "bad_key"),
    ("minimax", 500, {"type": "error", "error": {"type": "api_error", "message": "insufficient balance (1008)"}}, "quota"),
    ("minimax", 429, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "throttled"),
    (
        "minimax",
        400,
        {"base_resp": {"status_code": 2013, "status_msg": "invalid params, context window exceeds limit"}},
        "too_long",
    ),
    ("minimax", 400, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}, "policy"),
    ("minimax", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "High traffic detected"}}, "overloaded"),
    ("nvidia", 401, {"status": 401, "title": "Unauthorized", "detail": "Authentication failed"}, "bad_key"),
    ("nvidia", 402, {"detail": "Account 'x': Cloud credits expired"}, "quota"),
    ("nvidia", 404, {"status": 404, "title": "Not Found", "detail": "Function 'x': Not found for account 'y'"}, "client"),
    ("nvidia", 429, {"status": 429, "title": "Too Many Requests"}, "throttled"),
    ("nvidia", 400, {"object": "error", "message": _LONG, "code": 400}, "too_long"),
    ("huggingface", 401, {"error": "Invalid username or password."}, "bad_key"),
    ("huggingface", 402, {"error": "You have exceeded your monthly included credits for Inference Providers."}, "quota"),
    ("huggingface", 429, {"error": "Rate limit reached. You reached free usage limit (reset hourly)."}, "throttled"),
    ("huggingface", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}, "too_long"),
    ("huggingface", 404, {"error": "Not Found"}, "client"),
    ("voyage", 401, {"detail": "Provided API key is invalid."}, "bad_key"),
    (
        "voyage",
        429,
        {"detail": "You have not yet added your payment method in the billing page and will have reduced rate limits"},
        "throttled",
    ),
    ("voyage", 400, {"detail": "The max allowed tokens per submitted batch is 120000."}, "too_long"),
    ("voyage", 400, {"detail": "Model nope is not supported."}, "client"),
    ("chutes", 401, {"detail": "Invalid token"}, "bad_key"),
    ("chutes", 402, {"detail": "Quota exceeded and account balance is $0.0, please pay with fiat or send tao"}, "quota"),
    ("chutes", 429, {"detail": "Infrastructure is at maximum capacity, try again later"}, "overloaded"),
    ("chutes", 429, {"detail": "Rate limit exceeded"}, "throttled"),
    ("chutes", 400, {"object": "error", "message": _LONG, "code": 400}, "too_long"),
    ("sambanova", 401, _error("Invalid API key", "invalid_request_error", "invalid_api_key"), "bad_key"),
    ("sambanova", 429, _error("Rate limit exceeded: requests per day", "rate_limit_exceeded"), "quota"),
    ("sambanova", 429, _error("Rate limit exceeded", "rate_limit_exceeded", "rate_limit_exceeded"), "throttled"),
    ("sambanova", 400, _error("The model's maximum context length is 8192", code="context_length_exceeded"), "too_long"),
    ("sambanova", 410, _error("Model is deprecated"), "client"),
    ("novita", 401, {"code": 401, "reason": "FAILED_TO_AUTH", "message": "failed to authenticate"}, "bad_key"),
    ("novita", 403, {"code": 403, "reason": "NOT_ENOUGH_BALANCE", "message": "not enough balance"}, "quota"),
    ("novita", 403, {"code": 403, "reason": "INVALID_API_KEY", "message": "invalid api key"}, "bad_key"),
    ("novita", 404, {"code": 404, "reason": "MODEL_NOT_FOUND", "message": "model not found"}, "client"),
    ("novita", 429, {"code": 429, "reason": "RATE_LIMIT_EXCEEDED", "message": "rate limit exceeded"}, "throttled"),
    ("novita", 400, {"code": 400, "reason": "INVALID_REQUEST_BODY", "message": _LONG.replace("maximum ", "")}, "too_long"),
    ("deepinfra", 401, {"detail": {"error": "User authentication failed"}}, "bad_key"),
    ("deepinfra", 402, {"detail": {"error": "inference prohibited, please enter a payment method"}}, "quota"),
    ("deepinfra", 429, _error("Model busy, retry later", code="engine_overloaded"), "overloaded"),
    ("deepinfra", 429, _error("Rate limited"), "throttled"),
    ("deepinfra", 400, _error(_LONG), "too_long"),
    ("github_models", 401, _error("Bad credentials", code="unauthorized"), "bad_key"),
    (
        "github_models",
        429,
        _error("Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 3000 seconds", code="RateLimitReached"),
        "quota",
    ),
    (
        "github_models",
        429,
        _error("Rate limit of 10 per 60s exceeded for UserByModelByMinute. Please wait 2 seconds", code="RateLimitReached"),
        "throttled",
    ),
    (
        "github_models",
        413,
        _error("Request body too large for gpt-4o model. Max size: 8000 tokens.", code="tokens_limit_reached"),
        "too_long",
    ),
    ("github_models", 403, _error("No access to model: openai/o1", code="no_access"), "client"),
    ("github_models", 400, _error("The response was filtered", code="content_filter"), "policy"),
    ("vllm", 400, {"object": "error", "message": _LONG, "type": "BadRequestError", "code": 400}, "too_long"),
    (
        "vllm",
        404,
        {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
        "client",
    ),
    ("vllm", 401, {"error": "Unauthorized"}, "bad_key"),
    ("vllm", 503, {}, "overloaded"),
    (
        "lm_studio",
        400,
        {"error": "The number of tokens to keep from the initial prompt is greater than the context length"},
        "too_long",
    ),
    ("lm_studio", 404, _error("Model x not found", "invalid_request_error", "model_not_found"), "client"),
    (
        "llama_cpp",
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 4096,
            }
        },
        "too_long",
    ),
    ("llama_cpp", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, "overloaded"),
    ("llama_cpp", 401, {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}}, "bad_key"),
    (
        "azure",
        401,
        {"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}},
        "bad_key",
    ),
    (
        "azure",
        404,
        {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
        "client",
    ),
    ("azure", 429, {"error": {"code": "429", "message": _AZURE_429}}, "throttled"),
    ("azure", 429, {"error": {"code": "429", "message": "Rate limit is exceeded. Try again in 86400 seconds."}}, "throttled"),
    ("azure", 429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}, "quota"),
    (
        "azure",
        400,
        {
            "error": {
                "code": "content_filter",
                "message": "The response was filtered due to the prompt",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        "policy",
    ),
    ("azure", 400, _error(_LONG, "invalid_request_error", "context_length_exceeded"), "too_long"),
    ("azure", 403, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 01:00:00."}, "quota"),
    ("vertex_ai", 401, _google("UNAUTHENTICATED", "Request had invalid authentication credentials."), "bad_key"),
    ("vertex_ai", 403, _google("PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied on resource"), "bad_key"),
    (
        "vertex_ai",
        404,
        _google("NOT_FOUND", "Publisher Model was not found or your project does not have access to it."),
        "client",
    ),
    ("vertex_ai", 429, _google("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."), "overloaded"),
    (
        "vertex_ai",
        429,
        _google("RESOURCE_EXHAUSTED", "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests"),
        "throttled",
    ),
    (
        "vertex_ai",
        400,
        _google("INVALID_ARGUMENT", "The input token count (9000) exceeds the maximum number of tokens allowed (8192)."),
        "too_long",
    ),
    ("vertex_ai", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded"),
]
