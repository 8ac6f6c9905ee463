"""What may be wrong inside the chat database: each check finds it in one statement, and most mend it in another."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import TextClause, text

from chat_api.core.models.training import SWEPT_LATELY
from workers.sweeper import GIVE_UP_BUILDS, RUNLESS


@dataclass(frozen=True, slots=True)
class Check:
    """`find` gives the rows that are wrong, each with a `name` to show.

    `mend` says what `fixes` do; without any, what the operator is to do.
    """

    name: str
    sentence: str
    find: TextClause
    mend: str
    fixes: Sequence[TextClause] = ()
    retrain: bool = False
    """Whether the mending is to read the source again, whole: `name` is its id."""
    of_content: bool = False
    """Whether it looks into what is read one org at a time, :org_id."""


OVER = "job.status NOT IN ('waiting', 'running')"
TASKLESS = """
    job.status IN ('waiting', 'running') AND job.created_at < now() - interval '10 seconds'
    AND NOT EXISTS (SELECT FROM training_tasks AS task WHERE task.job_id = job.job_id)
"""
SOURCELESS = """
    NOT EXISTS (SELECT FROM sources AS source WHERE (source.org_id, source.bot_id, source.source_id)
                                                  = (job.org_id, job.bot_id, job.source_id))
"""
POINTED_AT = """
    (source.org_id, source.bot_id, source.source_id) = (generation.org_id, generation.bot_id, generation.source_id)
    AND source.live_generation = generation.generation
"""
LIVE_CHUNK = """
    (chunk.org_id, chunk.bot_id, chunk.source_id, chunk.generation)
    = (source.org_id, source.bot_id, source.source_id, source.live_generation)
"""
OF_LIVE = """
    (vector.org_id, vector.bot_id, vector.source_id, vector.generation)
    = (source.org_id, source.bot_id, source.source_id, source.live_generation)
"""
# Two ranges, since an index can be searched for them and not for what differs.
ELSEWHERE = f"""
    EXISTS (SELECT FROM embeddings AS vector WHERE {OF_LIVE} AND vector.space_id < bot.space_id
            AND vector.space_id IS DISTINCT FROM bot.next_space_id)
    OR EXISTS (SELECT FROM embeddings AS vector WHERE {OF_LIVE} AND vector.space_id > bot.space_id
               AND vector.space_id IS DISTINCT FROM bot.next_space_id)
"""  # noqa: S608  # the parts are this module's own, here and below

CHECKS = (
    Check(
        "runs_without_tasks",
        "Runs wait for work that nobody can claim.",
        text(f"SELECT job_id AS name FROM training_jobs AS job WHERE {TASKLESS}"),  # noqa: S608
        "makes their tasks anew, or ends a run behind which another waits",
        (
            text(f"""
                WITH lost AS (SELECT job_id, EXISTS (SELECT FROM training_jobs AS newer WHERE newer.org_id = job.org_id
                                  AND newer.source_id = job.source_id AND newer.job_id <> job.job_id
                                  AND newer.status = 'waiting') AS overtaken
                              FROM training_jobs AS job WHERE {TASKLESS} ORDER BY job_id FOR UPDATE)
                UPDATE training_jobs AS job SET status = CASE WHEN overtaken THEN 'cancelled' ELSE 'waiting' END,
                    finished_at = CASE WHEN overtaken THEN now() END, status_version = nextval('status_versions')
                FROM lost WHERE job.job_id = lost.job_id
            """),  # noqa: S608
            text(f"""
                INSERT INTO training_tasks (job_id, org_id, bot_id, source_id, kind, priority)
                SELECT job_id, org_id, bot_id, source_id, 'read', priority FROM training_jobs AS job WHERE {TASKLESS}
            """),  # noqa: S608
        ),
    ),
    Check(
        "tasks_of_ended_runs",
        "Tasks are left of runs that are over.",
        text(
            "SELECT task_id AS name FROM training_tasks AS task JOIN training_jobs AS job USING (job_id)"  # noqa: S608
            f" WHERE {OVER}"
        ),
        "deletes them",
        (
            text(
                "DELETE FROM training_tasks AS task USING training_jobs AS job"  # noqa: S608
                f" WHERE job.job_id = task.job_id AND {OVER}"
            ),
        ),
    ),
    Check(
        "runs_without_source",
        "Runs are of sources that are not known here.",
        text(f"SELECT job_id AS name FROM training_jobs AS job WHERE {SOURCELESS}"),  # noqa: S608
        "deletes them",
        (text(f"DELETE FROM training_jobs AS job WHERE {SOURCELESS}"),),  # noqa: S608
    ),
    Check(
        "abandoned_builds",
        "Generations are in building, and their run is over.",
        text(f"SELECT source_id || ' ' || generation AS name FROM generations WHERE {RUNLESS}"),  # noqa: S608
        "gives them to the collector",
        (GIVE_UP_BUILDS,),
    ),
    Check(
        "unread_live_generations",
        "Generations are called live, and their source reads another.",
        text(
            "SELECT source_id || ' ' || generation AS name FROM generations AS generation"  # noqa: S608
            f" WHERE state = 'live' AND NOT EXISTS (SELECT FROM sources AS source WHERE {POINTED_AT})"
        ),
        "gives them to the collector",
        (
            text(
                "UPDATE generations AS generation SET state = 'discarded'"  # noqa: S608
                f" WHERE state = 'live' AND NOT EXISTS (SELECT FROM sources AS source WHERE {POINTED_AT})"
            ),
        ),
    ),
    Check(
        "broken_pointers",
        "Sources read a generation that is not there.",
        text(
            "SELECT source_id AS name FROM sources AS source WHERE live_generation IS NOT NULL AND NOT EXISTS"  # noqa: S608
            f" (SELECT FROM generations AS generation WHERE {POINTED_AT} AND state = 'live')"
        ),
        "has them trained again",
        (
            text(
                "UPDATE sources AS source SET live_generation = NULL WHERE live_generation IS NOT NULL AND NOT EXISTS"  # noqa: S608
                f" (SELECT FROM generations AS generation WHERE {POINTED_AT} AND state = 'live')"
            ),
        ),
        retrain=True,
    ),
    Check(
        "live_without_chunks",
        "Sources count as trained, and have no chunk.",
        text(
            "SELECT source_id AS name FROM sources AS source WHERE org_id = :org_id AND live_generation IS NOT NULL"  # noqa: S608
            f" AND NOT EXISTS (SELECT FROM chunks AS chunk WHERE {LIVE_CHUNK})"
        ),
        "has them read again",
        retrain=True,
        of_content=True,
    ),
    Check(
        "chunks_without_vectors",
        "Sources have chunks that no question finds: they have no vector in their bot's embedding space.",
        text(f"""
            SELECT source_id AS name FROM sources AS source JOIN bots AS bot USING (org_id, bot_id)
            WHERE org_id = :org_id AND live_generation IS NOT NULL AND EXISTS (
                SELECT FROM chunks AS chunk WHERE {LIVE_CHUNK} AND NOT EXISTS (
                    SELECT FROM embeddings AS vector WHERE {OF_LIVE} AND vector.space_id = bot.space_id
                    AND vector.chunk_id = chunk.chunk_id))
        """),  # noqa: S608
        "has them read again; what has a vector keeps it",
        retrain=True,
        of_content=True,
    ),
    Check(
        "mixed_spaces",
        "Sources have vectors in an embedding space that their bot neither reads nor builds.",
        text(f"""
            SELECT source_id AS name FROM sources AS source JOIN bots AS bot USING (org_id, bot_id)
            WHERE org_id = :org_id AND live_generation IS NOT NULL AND ({ELSEWHERE})
        """),  # noqa: S608
        "deletes those vectors",
        (
            text(f"""
                WITH bot AS (SELECT org_id, bot_id, space_id, next_space_id FROM bots
                             WHERE org_id = :org_id AND space_id IS NOT NULL ORDER BY bot_id FOR SHARE)
                DELETE FROM embeddings AS vector USING sources AS source JOIN bot USING (org_id, bot_id)
                WHERE {OF_LIVE} AND vector.space_id <> bot.space_id
                  AND vector.space_id IS DISTINCT FROM bot.next_space_id
            """),  # noqa: S608
        ),
        of_content=True,
    ),
    Check(
        "no_sweeper",
        "Nobody has swept for a minute: what is forgotten, lost or deleted stays as it is.",
        text(f"SELECT 'sweeper' AS name WHERE NOT {SWEPT_LATELY}"),
        "start `python -m workers`, or `python -m workers --sweeper-only`",
    ),
    Check(
        "held_reembeddings",
        "Sources were refused by the embedding model that their bots are to read, which stay with the old one.",
        text("""
            SELECT source_id || ' ' || (result #>> '{error,code}') AS name FROM training_tasks
            WHERE kind = 'reembed' AND status = 'done' AND result ? 'error' ORDER BY source_id
        """),
        "put right what refused them, and run `reembed` again; it goes on with what is missing",
    ),
    Check(
        "parked_generations",
        "New generations are held back.",
        text("SELECT source_id || ' ' || generation || coalesce(' ' || held_by, '') AS name FROM generations"
             " WHERE state = 'parked'"),
        "look at their diffs, and let them go live with --allow-removals SOURCE, each by the id in front",
    ),
)  # fmt: skip
HELD_REMOVALS = text("""
    SELECT bot_id, source_id FROM sources WHERE removal_held_at IS NOT NULL AND deleted_at IS NULL
    ORDER BY bot_id, source_id
""")
DEAD_LEASES = text("""
    SELECT task_id AS name FROM training_tasks
    WHERE status = 'running' AND lease_expires_at < now() - interval '30 seconds'
""")
