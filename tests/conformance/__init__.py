"""The conformance kit of chat.v1: checks for any server, and a server that judges any client; vectors for clients."""
