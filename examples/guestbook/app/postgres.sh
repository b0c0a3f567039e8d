#!/bin/sh
# Make the database at the first start, then be PostgreSQL.
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
chown postgres:postgres /data
if [ ! -s /data/db/PG_VERSION ]; then
    as_postgres "$bin/initdb" --pgdata=/data/db --locale=C.UTF-8 --username=guestbook --auth-host=scram-sha-256 \
        --auth-local=trust --pwfile=/run/secrets/db_password
    echo "host all all all scram-sha-256" >> /data/db/pg_hba.conf
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups \
    "$bin/postgres" -D /data/db -c listen_addresses='*' -c unix_socket_directories=/tmp
