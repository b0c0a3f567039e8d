#!/bin/sh
# PostgreSQL: the first start makes the cluster in PGDATA, with POSTGRES_USER, POSTGRES_DB and the password of
# POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, and runs the *.sql of /docker-entrypoint-initdb.d.
set -e
case "$1" in
    -*) set -- postgres "$@" ;;
esac
if [ "$1" != postgres ]; then
    exec "$@"
fi
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
making=${PGDATA%/*}/making
if [ -e "$making" ]; then
    rm -rf "$PGDATA" # a first start that was interrupted left no database
fi
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    password=$POSTGRES_PASSWORD
    if [ -n "$POSTGRES_PASSWORD_FILE" ]; then
        password=$(cat "$POSTGRES_PASSWORD_FILE")
    fi
    if [ -z "$password" ]; then
        echo "postgres: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE" >&2
        exit 1
    fi
    touch "$making"
    (umask 077 && printf '%s\n' "$password" > /tmp/password)
    initdb --pgdata="$PGDATA" --username="$user" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 > /tmp/initdb.log || { cat /tmp/initdb.log; exit 1; }
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl --pgdata="$PGDATA" --options="-c listen_addresses=''" --wait --silent start
    if [ "$database" != postgres ]; then
        createdb --username="$user" "$database"
    fi
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -e "$file" ] || psql --username="$user" --dbname="$database" --set=ON_ERROR_STOP=1 --quiet --file="$file"
    done
    pg_ctl --pgdata="$PGDATA" --mode=fast --wait --silent stop
    rm "$making"
    echo "postgres: the database $database is made"
fi
exec "$@" -c listen_addresses='*'
