"""The floor both the API and the workers stand on: settings, errors, databases, embeddings, storage, the bell."""
