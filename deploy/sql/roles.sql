-- The chat database's three logins. What they may do with each table is granted by the migrations, which chat_migrator
-- runs; this says who they are and gives them the schema. Run it in the chat database, before the migrations, as often
-- as you like, as its owner with CREATEROLE (no superuser is needed where pgvector may be added without one):
--   psql "$ADMIN" -v migrator_password=… -v workers_password=… -v api_password=… -f deploy/sql/roles.sql

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['chat_migrator', 'chat_workers', 'chat_api'] LOOP
        IF to_regrole(role) IS NULL THEN
            EXECUTE format('CREATE ROLE %I', role);
        END IF;
    END LOOP;
END $$;
ALTER ROLE chat_migrator LOGIN PASSWORD :'migrator_password';
ALTER ROLE chat_workers LOGIN PASSWORD :'workers_password';
ALTER ROLE chat_api LOGIN PASSWORD :'api_password';

CREATE EXTENSION IF NOT EXISTS vector;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO chat_migrator;
GRANT USAGE ON SCHEMA public TO chat_workers, chat_api;
-- Workers COPY into temporary tables. The API has no use for them.
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO chat_migrator, chat_workers, chat_api', current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO chat_migrator, chat_workers', current_database());
END $$;

-- A database that was migrated before there were roles is handed over to the migrator. Who owned it becomes a member of
-- that, so that processes which still log in as before go on; take it away when none is left:
--   REVOKE chat_migrator FROM old_login
DO $$
DECLARE
    ours record;
    former name;
BEGIN
    FOR former IN
        SELECT DISTINCT rolname FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner
        WHERE relnamespace = CAST('public' AS regnamespace) AND rolname <> 'chat_migrator'
        UNION SELECT current_user
    LOOP
        IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = former) AND NOT pg_has_role(former, 'chat_migrator', 'USAGE') THEN
            EXECUTE format('GRANT chat_migrator TO %I', former);
        END IF;
    END LOOP;
    FOR ours IN
        SELECT CAST(oid AS regclass) AS name FROM pg_class
        WHERE relnamespace = CAST('public' AS regnamespace) AND relkind IN ('r', 'p', 'S')
          AND relowner <> CAST('chat_migrator' AS regrole)
          AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = CAST('pg_class' AS regclass) AND objid = pg_class.oid
                          AND deptype IN ('a', 'i', 'e') AND relkind = 'S')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO chat_migrator', ours.name);
    END LOOP;
    FOR ours IN
        SELECT CAST(oid AS regprocedure) AS name FROM pg_proc
        WHERE pronamespace = CAST('public' AS regnamespace) AND proowner <> CAST('chat_migrator' AS regrole)
          AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = CAST('pg_proc' AS regclass) AND objid = pg_proc.oid
                          AND deptype = 'e')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO chat_migrator', ours.name);
    END LOOP;
    FOR ours IN SELECT CAST(polrelid AS regclass) AS name FROM pg_policy WHERE polname = 'owner' LOOP
        EXECUTE format('ALTER POLICY owner ON %s TO chat_migrator', ours.name);
    END LOOP;
END $$;
