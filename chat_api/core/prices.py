"""What a model costs, by the table in the settings."""

import re
from collections.abc import Mapping, Sequence

USUAL: Mapping[str, tuple[float, float]] = {
    "text-embedding-3-small": (0.02, 0),
    "text-embedding-3-large": (0.13, 0),
    "text-embedding-ada-002": (0.10, 0),
    "gpt-4o": (2.50, 10.00),
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4.1": (2.00, 8.00),
    "gpt-4.1-mini": (0.40, 1.60),
    "gpt-4.1-nano": (0.10, 0.40),
    "gpt-5": (1.25, 10.00),
    "gpt-5-mini": (0.25, 2.00),
    "gpt-5-nano": (0.05, 0.40),
    "all-MiniLM-L6-v2": (0, 0),
}
"""OpenAI's usual models, and the one that runs in process."""
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}\Z", re.ASCII)


def cost_microusd(
    prices: Mapping[str, Sequence[float]], model: str, prompt_tokens: int, completion_tokens: int = 0
) -> int | None:
    """The cost of these tokens in millionths of a dollar, or None when the model has no price.

    `prices` are by model: USD per million tokens of input, and of output. A dated model (`gpt-4o-2024-08-06`) that is
    not named itself costs what the undated one does.
    """
    price = prices.get(model) or prices.get(_DATED.sub("", model))
    return None if price is None else round(prompt_tokens * price[0] + completion_tokens * price[1])
