"""SQLAlchemy models of both databases: chat.py and conversations.py are ours, dashboard.py is theirs."""

from chat_api.core.models.chat import ChatBase
from chat_api.core.models.conversations import Conversation, Turn

__all__ = ["ChatBase", "Conversation", "Turn"]
