-- The dashboard database's reference schema, for development and tests. In production these tables are the dashboard's
-- own: this service reads them and writes only the columns under "the service's to write".

CREATE TABLE IF NOT EXISTS orgs (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    limits jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS bots (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES orgs (id),
    name text NOT NULL,
    config jsonb NOT NULL DEFAULT '{}',
    allowed_origins text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX IF NOT EXISTS bots_org ON bots (org_id);

CREATE TABLE IF NOT EXISTS files (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES orgs (id),
    object_key text NOT NULL,
    filename text NOT NULL,
    content_type text,
    size_bytes bigint,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS training_sources (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES orgs (id),
    bot_id uuid NOT NULL REFERENCES bots (id),
    type text NOT NULL,
    url text,
    file_id uuid REFERENCES files (id),
    title text,
    content jsonb,
    options jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    -- the service's to write:
    status text NOT NULL DEFAULT 'pending',
    status_version bigint NOT NULL DEFAULT 0,
    progress int NOT NULL DEFAULT 0,
    error_code text,
    error_message text,
    job_id uuid,
    trained_at timestamptz
);
CREATE INDEX IF NOT EXISTS training_sources_bot ON training_sources (bot_id);
CREATE INDEX IF NOT EXISTS training_sources_pending ON training_sources (created_at) WHERE status = 'pending';
