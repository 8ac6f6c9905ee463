"""How a generation that is not live comes to answer: the statements, which the API and the command line share.

They stand in the order in which a transaction runs them: whoever holds the source knows that no training switches it
meanwhile, and only then looks whether the generation is still what it was.
"""

from sqlalchemy import text

from chat_api.core.keys import OF_GENERATION, OF_SOURCE

HOLD_SOURCE = text(f"SELECT live_generation FROM sources WHERE {OF_SOURCE} AND deleted_at IS NULL FOR UPDATE")  # noqa: S608  # the parts are our own
LOOK = text(f"""
    SELECT state, job_id FROM generations WHERE {OF_GENERATION} AND state <> 'discarded'
""")  # noqa: S608
SUCCEED = text("""
    UPDATE training_jobs AS job SET status = 'succeeded', finished_at = now(), error_code = NULL, error_message = NULL,
        error_retryable = NULL, status_version = nextval('status_versions')
    WHERE org_id = :org_id AND job_id = :job_id AND status = 'failed'
      AND NOT EXISTS (SELECT FROM training_jobs AS newer WHERE newer.org_id = job.org_id
                      AND newer.source_id = job.source_id AND newer.created_at > job.created_at)
    RETURNING job_id
""")
"""The run whose outcome was held back has succeeded with its release, unless a newer one has had its say since."""
MOVE = text(f"""
    UPDATE generations
    SET state = CASE WHEN generation = :generation THEN 'live' WHEN state = 'live' THEN 'kept' ELSE 'discarded' END,
        switched_at = CASE WHEN generation = :generation THEN now() ELSE switched_at END,
        held_by = CASE WHEN generation = :generation THEN NULL ELSE held_by END
    WHERE {OF_SOURCE} AND (state IN ('live', 'kept') OR generation = :generation)
""")  # noqa: S608
POINT = text(f"""
    UPDATE sources SET live_generation = :generation, pinned_version = :pinned_version WHERE {OF_SOURCE}
""")  # noqa: S608
HOLD_BOT = text("SELECT space_id FROM bots WHERE org_id = :org_id AND bot_id = :bot_id FOR SHARE")
UNREADABLE = text(f"""
    SELECT EXISTS (SELECT FROM chunks WHERE {OF_GENERATION} AND NOT EXISTS
        (SELECT FROM embeddings WHERE {OF_GENERATION} AND space_id = :space_id
         AND embeddings.chunk_id = chunks.chunk_id))
""")  # noqa: S608
"""Whether it lacks vectors of the space that the bot reads: then the caller takes all of it back."""
