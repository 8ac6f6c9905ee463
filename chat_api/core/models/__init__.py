"""SQLAlchemy models of both databases: dashboard.py is theirs, the others are ours."""

from chat_api.core.models.chat import ChatBase
from chat_api.core.models.conversations import Answer, AnswerFrames, Conversation, Turn
from chat_api.core.models.quantized import QuantizedBot, QuantizedEmbedding, QuantizedGeneration
from chat_api.core.models.training import Lease, TrainingJob, TrainingTask
from chat_api.core.models.usage import BudgetReservation, UsageDay

__all__ = [
    "Answer",
    "AnswerFrames",
    "BudgetReservation",
    "ChatBase",
    "Conversation",
    "Lease",
    "QuantizedBot",
    "QuantizedEmbedding",
    "QuantizedGeneration",
    "TrainingJob",
    "TrainingTask",
    "Turn",
    "UsageDay",
]
