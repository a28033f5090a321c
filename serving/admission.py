"""Which requests the engine can answer at all. Knows no torch and no queue."""

from __future__ import annotations

from registry.errors import Invalid
from serving.request import Request


def admissible(request: Request, vocabulary: int, context: int) -> None:
    """Invalid names the parameter that is wrong; `context_length_exceeded` is the code of too many tokens."""
    prompt, sampling = request.prompt, request.sampling
    if not prompt:
        raise Invalid("the prompt is empty", param="prompt")
    if min(prompt) < 0 or max(prompt) >= vocabulary:
        raise Invalid(f"the prompt holds a token id outside 0..{vocabulary - 1}", param="prompt")
    if any(not 0 <= token < vocabulary for token in sampling.stop_token_ids):
        raise Invalid(f"stop_token_ids must lie in 0..{vocabulary - 1}", param="stop_token_ids")
    if any(not 0 <= token < vocabulary for token, _ in sampling.logit_bias):
        raise Invalid(f"logit_bias must name token ids in 0..{vocabulary - 1}", param="logit_bias")
    virtual = request.num_virtual
    if virtual + len(prompt) + sampling.max_tokens > context:
        soft = f", {virtual} virtual tokens of the adapter" if virtual else ""
        raise Invalid(
            f"prompt ({len(prompt)}){soft} and answer ({sampling.max_tokens}) exceed the context of {context} tokens",
            param="max_tokens" if len(prompt) < context else "prompt",
            code="context_length_exceeded",
        )
