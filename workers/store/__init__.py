"""What training writes to the chat database, and the switch that makes it answer."""
