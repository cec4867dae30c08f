"""The wire formats the gateway recognises, and the dialect each belongs to."""

from __future__ import annotations

from enum import StrEnum


class Dialect(StrEnum):
    """A family of formats that share error bodies, authentication habits and path layout."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    OLLAMA = "ollama"
    BEDROCK = "bedrock"


class Format(StrEnum):
    """What a request body and its answer look like. `OTHER` passes through unread."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    OPENAI_COMPLETIONS = "openai_completions"
    OPENAI_EMBEDDINGS = "openai_embeddings"
    OPENAI_MODELS = "openai_models"
    OPENAI_OTHER = "openai_other"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    ANTHROPIC_COUNT_TOKENS = "anthropic_count_tokens"
    ANTHROPIC_MODELS = "anthropic_models"
    ANTHROPIC_OTHER = "anthropic_other"
    GEMINI_GENERATE = "gemini_generate"
    GEMINI_COUNT_TOKENS = "gemini_count_tokens"
    GEMINI_EMBED = "gemini_embed"
    GEMINI_MODELS = "gemini_models"
    GEMINI_OTHER = "gemini_other"
    OLLAMA_CHAT = "ollama_chat"
    OLLAMA_GENERATE = "ollama_generate"
    OLLAMA_OTHER = "ollama_other"
    BEDROCK_CONVERSE = "bedrock_converse"
    BEDROCK_INVOKE = "bedrock_invoke"
    BEDROCK_OTHER = "bedrock_other"

    @property
    def dialect(self) -> Dialect:
        """The family this format belongs to."""
        return Dialect(self.value.split("_", 1)[0])
