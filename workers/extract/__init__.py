"""From bytes to structured text, by media type, inside a throw-away child process."""
