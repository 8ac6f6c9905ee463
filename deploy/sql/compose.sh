#!/bin/sh
# Run once by the postgres container: the chat database's logins, and the dashboard's database beside it.
set -eu
psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -v migrator_password="$POSTGRES_PASSWORD" \
    -v workers_password="$POSTGRES_PASSWORD" -v api_password="$POSTGRES_PASSWORD" -f /roles.sql
createdb -U "$POSTGRES_USER" dashboard
psql -U "$POSTGRES_USER" -d dashboard -v ON_ERROR_STOP=1 -f /dashboard.sql
