"""Row-level security by org, and what the API's and the workers' logins may do with each table.

A transaction says whose rows it sees (`app.org_id`); one that has not said it sees none. Only what has no content is
read across orgs, by workers: runs, tasks, sources and generations, since a claim takes the next task of any org, and the
sweeper ends leases, tells the dashboard, compares the two databases and collects for all; and of a bot what says which
embedding space it reads. Pages, documents, chunks, vectors, usage and conversations are one org's at a time for them, too.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ACROSS_ORGS = ("bots", "generations", "sources", "training_jobs", "training_tasks")
SAID = "CAST(nullif(current_setting('app.org_id', true), '') AS uuid)"
ALL = "SELECT, INSERT, UPDATE, DELETE"
API = {
    **dict.fromkeys(("alembic_version", "embedding_spaces", "leases"), "SELECT"),
    **dict.fromkeys(("pages", "documents", "chunks", "embeddings"), "SELECT"),
    **dict.fromkeys(("bots", "sources", "usage_days"), "SELECT, INSERT, UPDATE"),
    "generations": "SELECT, UPDATE",
    **dict.fromkeys(("training_jobs", "training_tasks", "budget_reservations", "conversations", "turns"), ALL),
    **dict.fromkeys(("answers", "answer_frames"), ALL),
    "SEQUENCE status_versions": "USAGE",
    "FUNCTION waiting_elsewhere()": "EXECUTE",
    "FUNCTION workers_are_busy()": "EXECUTE",
}
WORKERS = {
    "leases": "SELECT, INSERT, UPDATE",
    "embedding_spaces": "SELECT, INSERT",
    "bots": "SELECT (org_id, bot_id, name, space_id, next_space_id, deleted_at),"
    " INSERT (org_id, bot_id, name, config, allowed_origins), UPDATE (space_id, next_space_id)",
    **dict.fromkeys(("sources", "usage_days"), "SELECT, INSERT, UPDATE"),
    **dict.fromkeys(("documents", "chunks", "embeddings"), "SELECT, INSERT, DELETE"),
    **dict.fromkeys(("generations", "pages", "training_jobs", "training_tasks"), ALL),
    # What is too old is deleted, unread.
    "conversations": "SELECT (org_id, bot_id, conversation_id, created_at, last_turn_at), DELETE",
    "turns": "SELECT (org_id, bot_id, conversation_id, message_id, created_at), DELETE",
    "answers": "SELECT (org_id, bot_id, conversation_id, ask_id, created_at), DELETE",
    "SEQUENCE fences": "USAGE",
    "SEQUENCE status_versions": "SELECT, USAGE, UPDATE",
}
TENANTS = """
    SELECT attrelid AS oid, CAST(attrelid AS regclass) AS name
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE attname = 'org_id' AND relkind IN ('r', 'p') AND relnamespace = CAST(current_schema() AS regnamespace)
"""


def upgrade() -> None:
    make_roles()
    make_policies()
    make_functions()
    for role, grants in (("chat_api", API), ("chat_workers", WORKERS)):
        for item, rights in grants.items():
            op.execute(f"GRANT {rights} ON {item} TO {role}")


def make_roles() -> None:
    """The roles, without a login, where an administrator has not made them with deploy/sql/roles.sql."""
    op.execute("""
        DO $$
        BEGIN
            IF to_regrole('chat_api') IS NULL THEN
                CREATE ROLE chat_api;
            END IF;
            IF to_regrole('chat_workers') IS NULL THEN
                CREATE ROLE chat_workers;
            END IF;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION 'The roles chat_api and chat_workers are missing. Run deploy/sql/roles.sql first.';
        END $$
    """)


def make_policies() -> None:
    """Forced on every table that has an org, partitions included; the owner, who migrates, sees all."""
    op.execute(f"""
        DO $$
        DECLARE
            tenant record;
        BEGIN
            FOR tenant IN {TENANTS} LOOP
                EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tenant.name);
                EXECUTE format('CREATE POLICY owner ON %s TO CURRENT_USER USING (true)', tenant.name);
                EXECUTE format('CREATE POLICY tenant ON %s TO chat_api, chat_workers USING (org_id = %s)',
                               tenant.name, $said${SAID}$said$);
            END LOOP;
        END $$
    """)
    for table in ACROSS_ORGS:
        op.execute(f"CREATE POLICY across_orgs ON {table} TO chat_workers USING (true)")


def make_functions() -> None:
    """What an org's place in the queue depends on beyond itself, as counts alone: run as the owner, who sees all."""
    op.execute(f"""
        CREATE FUNCTION waiting_elsewhere() RETURNS TABLE (priority text, tasks bigint, orgs bigint)
        LANGUAGE sql STABLE SECURITY DEFINER
        BEGIN ATOMIC
            SELECT counted.priority, counted.tasks, count(*) FROM (
                SELECT task.priority, count(*) AS tasks FROM training_tasks AS task
                WHERE task.status = 'waiting' AND task.run_after <= now() AND task.org_id <> {SAID}
                GROUP BY task.priority, task.org_id) AS counted
            GROUP BY counted.priority, counted.tasks;
        END
    """)
    op.execute("""
        CREATE FUNCTION workers_are_busy() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
        BEGIN ATOMIC
            SELECT EXISTS (SELECT FROM training_tasks WHERE status = 'running' AND lease_expires_at > now());
        END
    """)
    op.execute("REVOKE EXECUTE ON FUNCTION waiting_elsewhere(), workers_are_busy() FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP FUNCTION waiting_elsewhere()")
    op.execute("DROP FUNCTION workers_are_busy()")
    for table in ACROSS_ORGS:
        op.execute(f"DROP POLICY across_orgs ON {table}")
    op.execute(f"""
        DO $$
        DECLARE
            tenant record;
        BEGIN
            FOR tenant IN {TENANTS} LOOP
                EXECUTE format('DROP POLICY owner ON %s', tenant.name);
                EXECUTE format('DROP POLICY tenant ON %s', tenant.name);
                EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY', tenant.name);
            END LOOP;
        END $$
    """)
    for role, grants in (("chat_api", API), ("chat_workers", WORKERS)):
        for item, rights in grants.items():
            if rights != "EXECUTE":
                op.execute(f"REVOKE {rights} ON {item} FROM {role}")
