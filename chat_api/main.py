"""The API: create_app() joins routers, error handlers and middleware; its lifespan opens and closes the clients."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing

import structlog
from fastapi import FastAPI
from prometheus_client import start_http_server
from starlette.middleware import Middleware

from chat_api.chat.answer import Answerer, ExtractiveAnswerer, ModelAnswerer
from chat_api.chat.answers import Answers
from chat_api.chat.bot import Bots
from chat_api.chat.budget import Budgets
from chat_api.chat.cache import AnswerCache
from chat_api.chat.lexical import Lexical
from chat_api.chat.limits import MessageRates, Rates
from chat_api.chat.relay import Relay
from chat_api.chat.services import ChatServices
from chat_api.chat.sockets import Caps, Sockets
from chat_api.core.database import AsyncEngines, async_engines
from chat_api.core.embeddings import Embedders
from chat_api.core.login import PowerfulLoginError, check_login
from chat_api.core.redis_client import connect_redis
from chat_api.core.settings import Settings, load_settings
from chat_api.core.telemetry import configure_logging
from chat_api.drain import drained_before_the_end
from chat_api.errors import install_error_handlers
from chat_api.keyring import KeyFileError, KeyRing
from chat_api.middleware import BodyLimit, CorsByPath, LastResort, RequestContext
from chat_api.routes import (
    chat,
    conversations,
    events,
    health,
    messages,
    search,
    sources,
    training,
    usage,
    visitors,
    widget,
)
from chat_api.training.events import Feeds
from chat_api.training.objects import Bucket

log = structlog.get_logger(__name__)


def create_app(settings: Settings | None = None, *, keys: KeyRing | None = None) -> FastAPI:
    """The application, whose lifespan opens and closes its clients.

    Raises KeyFileError when the key file can't be used; without `settings` it ends the process when they are bad.
    """
    settings = settings or load_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.engines = await stack.enter_async_context(async_engines(settings))
            app.state.redis = stack.enter_context(connect_redis(settings))
            embedders = await stack.enter_async_context(_embedders(settings))
            app.state.chat = await stack.enter_async_context(_chat(settings, app.state.engines, embedders))
            app.state.answers = await stack.enter_async_context(_answers(settings, app.state.chat))
            app.state.sockets = _sockets(settings)
            stack.enter_context(drained_before_the_end(lambda: _drain(app)))
            app.state.feeds = Feeds(app.state.engines.chat, cap=settings.org_running_tasks)
            stack.callback(app.state.feeds.close)
            app.state.bucket = stack.enter_context(closing(Bucket(settings)))
            if settings.metrics_port:
                _serve_metrics(settings.metrics_port, stack)
            await _report(app)
            yield

    app = FastAPI(
        title="chat_api",
        description="Turns a company's own pages and files into a website chatbot that answers with citations.",
        lifespan=lifespan,
        middleware=_middleware(settings),
    )
    app.state.settings = settings
    app.state.keys = keys or KeyRing(settings.jwt_public_key_path)
    install_error_handlers(app)
    for module in (training, sources, events, chat, search, conversations, messages, usage, visitors, health, widget):
        app.include_router(module.router)
    if not (settings.metrics_port or settings.in_production):
        app.add_api_route("/metrics", health.metrics, include_in_schema=False)
    return app


def _middleware(settings: Settings) -> list[Middleware]:
    """From the outermost to the innermost."""
    cors = Middleware(CorsByPath, origins=settings.cors_origin_list)
    return [Middleware(RequestContext), cors, Middleware(LastResort), Middleware(BodyLimit)]


def _sockets(settings: Settings) -> Sockets:
    return Sockets(Caps(settings.max_sockets, settings.max_sockets_per_org, settings.max_sockets_per_bot))


@asynccontextmanager
async def _embedders(settings: Settings) -> AsyncIterator[Embedders]:
    embedders = Embedders(settings)
    embedders.of(embedders.space)  # what is missing is said at the start
    try:
        yield embedders
    finally:
        await embedders.aclose()


@asynccontextmanager
async def _chat(settings: Settings, engines: AsyncEngines, embedders: Embedders) -> AsyncIterator[ChatServices]:
    redis_url = settings.redis_url.get_secret_value()
    rates = Rates(
        visitor=settings.visitor_messages_per_minute,
        address=settings.address_messages_per_minute,
        bot=settings.bot_messages_per_minute,
        org=settings.org_messages_per_minute,
    )
    async with AsyncExitStack() as stack:
        answerer: Answerer = ExtractiveAnswerer()
        if settings.llm_provider == "openai":
            answerer = model = ModelAnswerer(settings)
            stack.push_async_callback(model.aclose)
        cache, counted = AnswerCache(redis_url), MessageRates(rates, redis_url)
        stack.push_async_callback(cache.aclose)
        stack.push_async_callback(counted.aclose)
        budgets = Budgets(engines, settings.prices)
        lexical = Lexical(engines, most_bytes=settings.lexical_cache_mb << 20)
        stack.push_async_callback(lexical.aclose)
        yield ChatServices(
            *(engines, embedders, answerer, Bots(engines), budgets, cache, counted, lexical), settings.passage_tokens
        )


@asynccontextmanager
async def _answers(settings: Settings, services: ChatServices) -> AsyncIterator[Answers]:
    relay = Relay(settings.redis_url.get_secret_value())
    answers = Answers(services, relay, grace_s=settings.resume_grace_s)
    try:
        yield answers
    finally:
        await answers.aclose()
        await relay.aclose()


async def _drain(app: FastAPI) -> None:
    """Takes no more questions, lets answers end for a while, hands the others on, and closes all sockets."""
    log.info("draining")
    app.state.sockets.drain()
    await app.state.answers.drain(app.state.settings.drain_s)
    await app.state.sockets.closed()
    app.state.feeds.close()


def _serve_metrics(port: int, stack: AsyncExitStack) -> None:
    try:
        server, _ = start_http_server(port)
    except OSError as error:
        # Figures are not worth an API that does not start; a second process on this machine meets this.
        log.error("metrics_port_not_opened", port=port, problem=error.strerror)  # noqa: TRY400
        return
    stack.callback(server.server_close)
    stack.callback(server.shutdown)


async def _report(app: FastAPI) -> None:
    """Has what fails said at the start; none of it stops the start, and /readyz looks again each time."""
    findings = await health.look(health.CHECKS, app.state, health.CHECK_LIMIT_S)
    failing = [name for name, finding in findings.items() if finding.problem]
    log.info("started", environment=app.state.settings.app_env, failing=failing)


def _serve() -> FastAPI:
    """The application of this process: settings from the environment, logs configured, problems said in a line."""
    settings = load_settings()
    try:
        configure_logging(settings)
        check_login(settings)
        return create_app(settings)
    except PowerfulLoginError as error:
        sys.exit(str(error))
    except KeyFileError as error:
        sys.exit(f"JWT_PUBLIC_KEY_PATH: {error}")
    except OSError as error:
        sys.exit(f"LOG_FILE: {settings.log_file} can't be written: {error.strerror}")


def __getattr__(name: str) -> FastAPI:
    """Makes `app` when it is first asked for (`uvicorn chat_api.main:app`), so that importing this opens nothing."""
    if name != "app":
        raise AttributeError(name)
    app = globals()["app"] = _serve()
    return app
