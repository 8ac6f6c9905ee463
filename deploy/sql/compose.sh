#!/bin/sh
# Run once by the postgres container: the dashboard's database beside the chat database.
set -eu
createdb -U "$POSTGRES_USER" dashboard
psql -U "$POSTGRES_USER" -d dashboard -v ON_ERROR_STOP=1 -f /dashboard.sql
