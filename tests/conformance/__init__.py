"""The conformance kit of chat.v1: checks for any server, by its address and a way to make tokens, and vectors for clients."""
