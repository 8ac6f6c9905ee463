"""SQLAlchemy models of both databases: chat.py is ours, dashboard.py is theirs."""
