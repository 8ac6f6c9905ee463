"""What a bot's owner and its org may set: good values are taken, bad ones fall back to the default and are named."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, get_type_hints
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

Sentence = Annotated[str, StringConstraints(max_length=4_000)]
ModelName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Term = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


@dataclass(frozen=True, slots=True)
class CuratedAnswer:
    """What the owner wants answered to a question, in the owner's own words."""

    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]
    answer: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8_000)]


@dataclass(frozen=True, slots=True)
class OwnersQuestion:
    """A question that the owner tests the bot with: with the source or the page that answers it, or with none."""

    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]
    source_id: UUID | None = None
    url: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)] | None = None
    answerable: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError when it says nowhere, or twice, what is expected."""
        if (self.source_id is not None) + (self.url is not None) + (not self.answerable) != 1:
            raise ValueError("one of source_id, url and answerable=false is needed")


@dataclass(frozen=True, slots=True)
class BotConfig:
    """What of `bots.config` a turn or a training needs; `similarity_threshold` and scores are on the same scale of 0 to 1."""

    system_prompt: Annotated[
        str,
        StringConstraints(max_length=20_000),
        Field(description="What the model is told besides our own task: tone, role, what to do without an answer."),
    ] = ""
    model: Annotated[
        ModelName | None, Field(description="The chat model, one of the org's `allowed_models`; else `OPENAI_MODEL`.")
    ] = None
    temperature: Annotated[
        float, Field(ge=0, le=2, description="How freely the model chooses its words; not sent to reasoning models.")
    ] = 0.2
    max_tokens: Annotated[int, Field(ge=1, le=16_000, description="The longest answer, in tokens.")] = 800
    history_length: Annotated[
        int,
        Field(ge=0, le=50, description="Earlier turns of the conversation that the model sees; 0: each stands alone."),
    ] = 6
    retrieval_k: Annotated[int, Field(ge=1, le=50, description="Passages that an answer is made from, at most.")] = 6
    similarity_threshold: Annotated[
        float, Field(ge=0, le=1, description="The score below which no passage counts; the same scale for every model.")
    ] = 0.3
    language: Annotated[
        str | None,
        Field(max_length=35, description="The answer's language where the question does not tell which; else its own."),
    ] = None
    welcome_message: Annotated[Sentence, Field(description="What the widget says first.")] = (
        "Hello! What would you like to know?"
    )
    fallback_message: Annotated[
        Sentence,
        Field(description="The answer where no passage is above the threshold, or the model finds none in them."),
    ] = "I could not find an answer to that in our pages."
    disclaimer: Annotated[Sentence, Field(description="Stands below the widget, and below the fallback message.")] = ""
    sample_questions: Annotated[
        tuple[Sentence, ...],
        Field(
            max_length=20,
            description="Questions that a visitor is offered; without any, some of its headings where nothing was found.",
        ),
    ] = ()
    curated_answers: Annotated[
        tuple[CuratedAnswer, ...],
        Field(
            max_length=500,
            description="`{question, answer}`: given as they are to that question, also with other fillers and slips of"
            " the pen; no model is asked.",
        ),
    ] = ()
    blocked_terms: Annotated[
        tuple[Term, ...],
        Field(max_length=200, description="Questions with one of them are not answered; answers have them masked."),
    ] = ()
    daily_token_budget: Annotated[
        int | None,
        Field(
            ge=0,
            le=10**12,
            description="Tokens of the bot's chats in a day (UTC): near it `OPENAI_CHEAPER_MODEL`; where no answer fits in"
            " any more, curated and cached ones and the fallback message; once it is used up, `budget_exhausted`.",
        ),
    ] = None
    answer_cache: Annotated[
        bool, Field(description="Whether the same question gets the same answer until content or configuration change.")
    ] = True
    test_questions: Annotated[
        tuple[OwnersQuestion, ...],
        Field(
            max_length=100, description="Questions that no retraining may lose the answers of; see *What happens when*."
        ),
    ] = ()
    theme: Annotated[
        dict[str, str | int | float | bool | None],
        Field(max_length=50, description="The dashboard's own; the widget takes its looks from its tag."),
    ] = field(default_factory=dict)


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class OrgLimits:
    """`orgs.limits`; None where there is no limit. What is trained is bounded by `limit_in`, which takes the same."""

    monthly_tokens: Annotated[
        int | None,
        Field(
            ge=0,
            le=10**15,
            description="Tokens that its bots use in a month (UTC), training included: for chats as `daily_token_budget`;"
            " training goes on.",
        ),
    ] = None
    messages_per_minute: Annotated[
        int | None, Field(ge=0, le=1_000_000, description="Of all its visitors, in place of `ORG_MESSAGES_PER_MINUTE`.")
    ] = None
    allowed_models: Annotated[
        tuple[ModelName, ...] | None,
        Field(
            max_length=100,
            description="The chat models that its bots may name; instead of another one `OPENAI_MODEL`, or the first.",
        ),
    ] = None
    monthly_pages: Annotated[
        Amount | None,
        Field(description="Pages and addresses of `url`, `site` and `sitemap` sources read in a month (UTC)."),
    ] = None
    max_sources: Annotated[
        Amount | None, Field(description="Sources; younger ones than the first so many are `quota_exceeded`.")
    ] = None
    max_file_mb: Annotated[Amount | None, Field(description="A file's size in MiB, in place of `MAX_FILE_MB`.")] = None


def parse_config(raw: object) -> tuple[BotConfig, list[str]]:
    """The configuration in `bots.config`, and the names of the values that were bad and fell back to the default."""
    good, bad = _judged(_CONFIG, raw, "config")
    return BotConfig(**good), bad


def parse_limits(raw: object) -> tuple[OrgLimits, list[str]]:
    """The limits in `orgs.limits`, and the names of the values that were bad and are no limit."""
    good, bad = _judged(_LIMITS, raw, "limits")
    return OrgLimits(**good), bad


def _judged(adapters: Mapping[str, TypeAdapter[Any]], raw: object, whole: str) -> tuple[dict[str, Any], list[str]]:
    """The good values, and the names of the bad ones; `whole` is the name when it is no object at all."""
    given: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
    good: dict[str, Any] = {}
    bad = [] if raw is None or isinstance(raw, dict) else [whole]
    for name, adapter in adapters.items():
        if given.get(name) is None:
            continue
        try:
            # Read as JSON, strictness knows that lists are tuples there, and uuids texts.
            good[name] = adapter.validate_json(json.dumps(_whole(given[name])), strict=True)
        except ValidationError:
            bad.append(name)
    return good, bad


def _whole(value: object) -> object:
    """The value; 20.0, as some write what is 20, as the whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _adapters(kind: type[Any]) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return {option.name: TypeAdapter(hints[option.name]) for option in fields(kind)}


_CONFIG, _LIMITS = _adapters(BotConfig), _adapters(OrgLimits)
