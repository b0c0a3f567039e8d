#!/bin/sh
# MariaDB: starts as root, gives the volume to mysql, and goes on as mysql. The first start makes the tables, the
# database MARIADB_DATABASE and the account MARIADB_USER, with the password of MARIADB_PASSWORD or
# MARIADB_PASSWORD_FILE, and runs the *.sql of /docker-entrypoint-initdb.d; root can log in over the socket only.
set -e
case "$1" in
    -*) set -- mariadbd "$@" ;;
esac
if [ "$1" != mariadbd ]; then
    exec "$@"
fi
data=/var/lib/mysql
if [ "$(id -u)" = 0 ]; then
    chown mysql:mysql "$data" /run/mysqld
    exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
fi
if [ -e "$data/.making" ]; then
    find "$data" -mindepth 1 -delete # a first start that was interrupted left no database
fi
if [ ! -d "$data/mysql" ]; then
    password=$MARIADB_PASSWORD
    if [ -n "$MARIADB_PASSWORD_FILE" ]; then
        password=$(cat "$MARIADB_PASSWORD_FILE")
    fi
    if [ -z "$MARIADB_DATABASE" ] || [ -z "$MARIADB_USER" ] || [ -z "$password" ]; then
        echo "mariadb: set MARIADB_DATABASE, MARIADB_USER, and MARIADB_PASSWORD or MARIADB_PASSWORD_FILE" >&2
        exit 1
    fi
    touch "$data/.making"
    mariadb-install-db --datadir="$data" --auth-root-authentication-method=socket --skip-test-db >/dev/null
    quoted=$(printf %s "$password" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g")
    cat - /docker-entrypoint-initdb.d/*.sql 2>/dev/null <<SQL | mariadbd --datadir="$data" --bootstrap
FLUSH PRIVILEGES;
CREATE DATABASE \`$MARIADB_DATABASE\` CHARACTER SET utf8mb4;
CREATE USER '$MARIADB_USER'@'%' IDENTIFIED BY '$quoted';
GRANT ALL ON \`$MARIADB_DATABASE\`.* TO '$MARIADB_USER'@'%';
USE \`$MARIADB_DATABASE\`;
SQL
    rm "$data/.making"
    echo "mariadb: the database $MARIADB_DATABASE is made"
fi
exec "$@" --datadir="$data" --bind-address=0.0.0.0 --skip-name-resolve
