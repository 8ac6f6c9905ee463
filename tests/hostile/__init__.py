"""What strangers may try: hostile addresses, servers, files and messages, by the thousand."""
