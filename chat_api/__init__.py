"""The API: verifies tokens, accepts training, answers chat."""
